"""What stand-ins refuse, and that a model is after a pass what it was before."""

import pytest
import torch
import torch.nn.functional as F
from reference import (
    FACTS,
    STEPS,
    VOCABULARY,
    all_names,
    assert_equal,
    hypergradient_of,
    padded,
    plain_loop,
    plan_of,
    some_rates,
)
from tiny_models import ARCHITECTURES, tiny_gpt2, tiny_llama

from reckoning_betty.errors import UserError
from reckoning_betty.inner.encode import encoding_loss

FORMS = ["dual", "batched"]


def one_step(model, form="dual", **options):
    names = all_names(model)
    facts = padded(FACTS)
    rates = {name: rate[0] for name, rate in some_rates(names).items()}
    fast = plan_of(form, model, names, **options).start(model, len(FACTS))
    return fast.step(lambda now: encoding_loss(now, facts), rates, create_graph=True)


def wrapped(module, forward):
    """``module`` with another forward pass, which gets the old one."""
    old = module.forward
    module.forward = lambda *args, **kwargs: forward(module, old, *args, **kwargs)


UNKNOWN = {
    "a matrix in einsum": ("lm_head", lambda m, old, x: torch.einsum("rti,oi->rto", x, m.weight)),
    "a matrix in matmul": ("lm_head", lambda m, old, x: torch.matmul(x, m.weight)),
    "a matrix with @": ("lm_head", lambda m, old, x: x @ m.weight),
    "a matrix transposed": ("lm_head", lambda m, old, x: x @ m.weight.T),
    "a matrix indexed": ("model.embed_tokens", lambda m, old, ids: m.weight[ids]),
    "a matrix times a number": ("lm_head", lambda m, old, x: F.linear(x, 2.0 * m.weight)),
    "a matrix's norm": ("lm_head", lambda m, old, x: old(x) / torch.linalg.vector_norm(m.weight)),
    "a renormalised table": ("model.embed_tokens", lambda m, old, ids: F.embedding(ids, m.weight, max_norm=1.0)),
    "a vector divided": ("model.norm", lambda m, old, x: x / m.weight),
    "a vector in exp": ("model.norm", lambda m, old, x: x * torch.exp(m.weight)),
    "a vector's method": ("model.norm", lambda m, old, x: x * m.weight.exp()),
    "a vector in a function": ("model.norm", lambda m, old, x: F.batch_norm(x, None, None, m.weight, training=True)),
    "a vector indexed": ("model.norm", lambda m, old, x: x * m.weight[0]),
    "a vector compared": ("model.norm", lambda m, old, x: x * (m.weight > 0)),
    "a vector in stack": ("model.norm", lambda m, old, x: x * torch.stack([m.weight, m.weight])[0]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("use", UNKNOWN)
def test_an_unknown_use_of_a_parameter_is_refused(use, form):
    place, forward = UNKNOWN[use]
    model = tiny_llama(VOCABULARY, tie_word_embeddings=False)
    wrapped(model.get_submodule(place), forward)
    with pytest.raises(UserError) as raised:
        one_step(model, form)
    assert f"{place}.weight" in str(raised.value)
    assert "inner.fast_weights=looped" in str(raised.value)


KNOWN = {
    "weight on the left": lambda m, old, x: m.weight * F.layer_norm(x, x.shape[-1:]) + m.bias,
    "weight on the right": lambda m, old, x: F.layer_norm(x, x.shape[-1:]) * m.weight + m.bias,
    "one plus the weight": lambda m, old, x: (1.0 + m.weight) * F.layer_norm(x, x.shape[-1:]) - m.bias,
    "number minus the weight": lambda m, old, x: F.layer_norm(x, x.shape[-1:]) * (2.0 - m.weight) - (m.bias - 1.0),
    "functions": lambda m, old, x: torch.add(torch.mul(F.layer_norm(x, x.shape[-1:]), m.weight), m.bias),
    "minus the batch": lambda m, old, x: m.bias - F.layer_norm(x, x.shape[-1:]) * m.weight,
    "parameters with each other": lambda m, old, x: F.layer_norm(x, x.shape[-1:]) * (m.weight * m.bias + m.weight),
    "weight alone": lambda m, old, x: F.layer_norm(x, x.shape[-1:], m.weight) + m.bias,
    "rms norm": lambda m, old, x: F.rms_norm(x, x.shape[-1:], m.weight, 1e-3) + m.bias,
    "cast": lambda m, old, x: F.layer_norm(x, x.shape[-1:]) * m.weight.to(x.dtype) + m.bias.type_as(x),
}


@pytest.mark.parametrize("use", KNOWN)
def test_known_uses_of_a_vector(use, float64):
    def model_with_it():
        model = tiny_gpt2(VOCABULARY)
        wrapped(model.transformer.ln_f, KNOWN[use])
        return model

    model = model_with_it()
    names = all_names(model)
    found = hypergradient_of(model, plan_of("dual", model, names), some_rates(names))
    assert_equal(found, plain_loop(model_with_it(), names, some_rates(names)), 1e-10)


def test_a_norm_with_a_bias_alone(float64):
    # torch has no second derivative of this one call, so the plain loop adds the bias itself
    found, expected = tiny_gpt2(VOCABULARY), tiny_gpt2(VOCABULARY)
    wrapped(found.transformer.ln_f, lambda m, old, x: F.layer_norm(x, x.shape[-1:], None, m.bias) * m.weight)
    wrapped(expected.transformer.ln_f, lambda m, old, x: (F.layer_norm(x, x.shape[-1:]) + m.bias) * m.weight)
    names = all_names(found)
    found = hypergradient_of(found, plan_of("dual", found, names), some_rates(names))
    assert_equal(found, plain_loop(expected, names, some_rates(names)), 1e-10)


def state_of(model):
    """What must be the same after a pass: the parameters themselves, their order, and everything in modules."""
    parameters = [(name, id(parameter)) for name, parameter in model.named_parameters(remove_duplicate=False)]
    attributes = [(name, sorted(module.__dict__)) for name, module in model.named_modules()]
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return parameters, attributes, values


def assert_unchanged(model, before):
    now = state_of(model)
    assert now[:2] == before[:2]
    assert list(now[2]) == list(before[2])
    for name, tensor in now[2].items():
        assert torch.equal(tensor, before[2][name]), name


@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "checkpoint"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name.endswith(" tied")])
def test_a_model_is_as_it_was_after_a_pass(architecture, form, checkpoint):
    model = ARCHITECTURES[architecture](VOCABULARY)
    before = state_of(model)
    fast, _ = one_step(model, form, checkpoint=checkpoint)
    fast.logits(padded(FACTS).inputs).sum().backward()
    assert_unchanged(model, before)


@pytest.mark.parametrize("form", FORMS)
def test_a_model_is_as_it_was_after_a_pass_that_raised(form, float64_throughout):
    model = tiny_llama(VOCABULARY)
    names = all_names(model)
    before = state_of(model)
    hook = model.model.layers[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one_step(model, form)
    hook.remove()
    assert_unchanged(model, before)
    found = hypergradient_of(model, plan_of(form, model, names), some_rates(names, STEPS))
    assert_equal(found, plain_loop(tiny_llama(VOCABULARY), names, some_rates(names, STEPS)), 1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_a_model_computes_as_before_after_a_refusal(form):
    model = tiny_llama(VOCABULARY)
    ids = torch.tensor([[3, 4, 5]])
    expected = model(input_ids=ids).logits
    wrapped(model.model.norm, lambda m, old, x: x / m.weight)
    before = state_of(model)
    with pytest.raises(UserError):
        one_step(model, form)
    assert_unchanged(model, before)
    del model.model.norm.forward
    assert torch.equal(model(input_ids=ids).logits, expected)


def test_a_batch_that_is_not_whole_tasks_is_refused():
    model = tiny_gpt2(VOCABULARY)
    wrapped(model.transformer.ln_f, lambda m, old, x: old(x[:-1]))
    with pytest.raises(UserError, match=r"transformer\.ln_f\.weight in 'a batch of .* rows'"):
        one_step(model)
