"""Products in bfloat16: what is rounded, what is not, and how far the hypergradient turns."""

import functools

import pytest
import torch
import transformers
from reference import (
    FACTS,
    VOCABULARY,
    all_names,
    assert_equal,
    hypergradient_of,
    padded,
    plan_of,
    relative_errors,
    some_rates,
)

from reckoning_betty.errors import UserError
from reckoning_betty.inner.encode import encode
from reckoning_betty.inner.fast_weights import plan_fast_weights
from reckoning_betty.inner.low_rank import LowRank
from reckoning_betty.inner.one_pass import logits_of
from reckoning_betty.inner.optimizers import AdamW
from reckoning_betty.inner.precision import add_product, multiply, precision_of, product_dtype, set_precision
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.adapters import add_adapters
from reckoning_betty.models.causal_lm import layer_names, make_twice_differentiable

SPECIAL = {"bos_token_id": 1, "eos_token_id": 1, "attn_implementation": "eager"}


def gpt2():
    shape = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **SPECIAL))


def llama():
    shape = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, **heads, **SPECIAL))


def made(make, lora=False, precision="float32"):
    """A model as large as its family starts it: what rounding does depends on how well a model is conditioned."""
    torch.manual_seed(0)
    model = make_twice_differentiable(make())
    if lora:
        add_adapters(model, rank=4, alpha=8.0, targets=["all-linear"])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_" in name:
                    parameter.normal_(std=0.1)
    set_precision(model, precision)
    return model


def rates_for(names, rate=0.1, dtype=torch.float32):
    return {name: torch.full((3,), rate, dtype=dtype) for name in names}


@functools.cache
def exact(make, lora, optimizer=None):
    model = made(make, lora).double()
    names = all_names(model)
    form, options = ("batched", {"optimizer": optimizer}) if optimizer else ("dual", {})
    rates = rates_for(names, 0.01 if optimizer else 0.1, torch.float64)
    return hypergradient_of(model, plan_of(form, model, names, **options), rates)


def cosine(a, b):
    return torch.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0).item()


def cosines(found, expected, least_size=256):
    large = [name for name, gradient in expected.tensors.items() if gradient.numel() >= least_size]
    assert large
    return {name: cosine(found.tensors[name], expected.tensors[name]) for name in large}


def all_of(part):
    return torch.cat([gradient.double().flatten() for gradient in part.values()])


@pytest.mark.parametrize(
    ("form", "checkpoint"),
    [("dual", False), ("batched", False), ("mixed", True)],
    ids=["dual", "batched", "checkpoint"],
)
@pytest.mark.parametrize(
    ("make", "lora", "least"),
    [(gpt2, False, 0.998), (llama, False, 0.998), (gpt2, True, 0.9), (llama, True, 0.98)],
    ids=["gpt2", "llama", "gpt2 lora", "llama lora"],
)
def test_the_hypergradient_points_where_the_exact_one_does(make, lora, least, form, checkpoint):
    expected, model = exact(make, lora), made(make, lora, "bfloat16")
    names = all_names(model)
    found = hypergradient_of(model, plan_of(form, model, names, checkpoint=checkpoint), rates_for(names))
    assert all(gradient.dtype == torch.float32 for gradient in found.tensors.values())
    each = cosines(found, expected)
    assert min(each.values()) > least, min(each, key=each.get)
    assert cosine(all_of(found.rates), all_of(expected.rates)) > 0.95
    assert max(relative_errors(found, expected).values()) > 1e-3  # it was rounded


@pytest.mark.parametrize("make", [gpt2, llama])
def test_adamw_copies_point_there_too(make):
    optimizer = AdamW(epsilon=1e-2)
    expected, model = exact(make, False, optimizer), made(make, precision="bfloat16")
    names = all_names(model)
    found = hypergradient_of(model, plan_of("batched", model, names, optimizer=optimizer), rates_for(names, 0.01))
    each = cosines(found, expected)
    assert min(each.values()) > 0.98, min(each, key=each.get)
    assert max(relative_errors(found, expected).values()) > 1e-3


def test_without_second_derivatives_the_cosine_would_be_lower():
    # guards the tests above: cosines near 1 tell that the products of the second derivatives are right
    model = made(gpt2)
    names = all_names(model)
    first_order = hypergradient_of(model, plan_of("dual", model, names), rates_for(names), differentiated=0)
    assert min(cosines(first_order, exact(gpt2, False)).values()) < 0.97


@pytest.mark.parametrize("form", ["dual", "batched", "mixed"])
def test_several_passes_are_one(form):
    model = made(gpt2, precision="bfloat16")
    names = all_names(model)
    found = [hypergradient_of(model, plan_of(form, model, names), rates_for(names), facts_per_pass=n) for n in (0, 1)]
    assert min(cosines(*found).values()) > 0.995


def test_float64_is_never_rounded(float64):
    model = made(gpt2, precision="bfloat16").double()
    names = all_names(model)
    assert product_dtype(model) is None
    found = hypergradient_of(model, plan_of("dual", model, names), rates_for(names, dtype=torch.float64))
    set_precision(model, "float32")
    expected = hypergradient_of(model, plan_of("dual", model, names), rates_for(names, dtype=torch.float64))
    assert_equal(found, expected, 1e-14)


def moved_by_small_steps(form, precision, rate=1e-5, num_steps=4):
    """theta_N - theta of the matrices that move, and the fast weights."""
    model = made(gpt2, precision=precision)
    names, layers = all_names(model), layer_names(model)
    rates = InnerRates({name: layers[name] for name in names}, num_steps, rate, "static")
    start = plan_of(form, model, names).start(model, len(FACTS))
    fast, _ = encode(start, padded(FACTS), rates, num_steps)
    moved = {}
    for name, matrix in fast.matrices.items():
        if isinstance(matrix, LowRank):
            total = torch.zeros(len(FACTS), *matrix.origin.shape)
            for chain, length in matrix.segments:
                left, right = chain.factors(length)
                rows = torch.nn.functional.one_hot(left.values, total.shape[1]).float() if left.one_hot else left.values
                total -= rows.mT @ right
            moved[name] = total
        else:
            moved[name] = matrix.stack - matrix.origin.matrix
    return moved, fast, model


@pytest.mark.parametrize("form", ["dual", "batched"])
def test_small_steps_move_fast_weights_as_in_float32(form):
    expected, _, _ = moved_by_small_steps("dual", "float32")
    found, fast, model = moved_by_small_steps(form, "bfloat16")
    for name, change in found.items():
        # a difference of float32 weights of 0.02, moved by some 1e-6, has lost three digits in the batched form
        assert cosine(change, expected[name]) > 0.99, name
        assert change.norm().item() == pytest.approx(expected[name].norm().item(), rel=0.02), name
    weight = model.transformer.h[0].mlp.c_fc.weight
    step = expected["transformer.h.0.mlp.c_fc.weight"][0].mT
    copy, nonzero = weight.detach().bfloat16(), step != 0
    assert (copy + step.bfloat16() != copy)[nonzero].float().mean() < 0.02  # it would stay where it was
    assert (weight + step != weight)[nonzero].float().mean() > 0.9
    held = [fast.values[name] for name in fast.values]
    for matrix in fast.matrices.values():
        held += [matrix.stack] if form == "batched" else [matrix.segments[0][0].factors(1)[1]]
    assert {tensor.dtype for tensor in held} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_every_product_with_a_weight_is_rounded():
    # and those of attention: float32 factors reach a matrix product nowhere
    seen = set()

    class Products(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func._overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm):
                seen.update(tensor.dtype for tensor in args if isinstance(tensor, torch.Tensor))
            assert func._overloadpacket not in (torch.ops.aten.baddbmm_, torch.ops.aten.addmm_)
            return func(*args, **(kwargs or {}))

    for lora in (False, True):
        model = made(llama, lora, "bfloat16")
        names = all_names(model)
        with Products():
            hypergradient_of(model, plan_of("mixed", model, names), some_rates(names))
    # the rotary positions' angles are a product in float32, by transformers' own choice
    assert seen - {torch.float32} == {torch.bfloat16}


def test_the_model_alone_rounds_as_well():
    ids = torch.tensor([FACTS[0][0]])
    model, exact_model = made(gpt2, precision="bfloat16"), made(gpt2)
    found, expected = logits_of(model, ids), logits_of(exact_model, ids)
    assert found.dtype == torch.float32
    assert 1e-4 < (found - expected).norm() / expected.norm() < 0.02
    found.logsumexp(-1).sum().backward()
    expected.logsumexp(-1).sum().backward()
    for (name, parameter), other in zip(model.named_parameters(), exact_model.parameters(), strict=True):
        if parameter.numel() >= 256:
            assert cosine(parameter.grad, other.grad) > 0.999, name


def test_products():
    torch.manual_seed(2)
    left, right, target = torch.randn(2, 3, 40), torch.randn(2, 40, 5), torch.randn(2, 3, 5)
    expected = left.bfloat16().double() @ right.bfloat16().double()
    found = multiply(left, right, torch.bfloat16)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), rtol=2**-8, atol=1e-3)
    added = add_product(target.clone(), left, right, torch.bfloat16, alpha=-2.0)
    torch.testing.assert_close(added, target - 2 * found)
    assert torch.equal(multiply(left, right, None), left @ right)
    with pytest.raises(ValueError, match="float16"):
        set_precision(torch.nn.Linear(1, 1), "float16")
    assert precision_of(torch.nn.Linear(1, 1)) == "float32"


@pytest.mark.parametrize(("form", "sweep"), [("looped", False), ("auto", True)])
def test_forms_that_run_the_model_s_own_products_are_refused(form, sweep):
    model = made(gpt2, precision="bfloat16")
    plan = plan_fast_weights(model, all_names(model), form, 2, 5, 2, forward_over_reverse=sweep)
    with pytest.raises(UserError, match=r"take inner.fast_weights=batched, or model.precision=float32"):
        plan.start(model, 2)
