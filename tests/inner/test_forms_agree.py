"""The hypergradient of every form, of every parameter and every rate, against a plain loop."""

import fnmatch
import functools

import pytest
import torch
from reference import (
    FACTS,
    QUESTIONS,
    STEPS,
    VOCABULARY,
    all_names,
    assert_equal,
    hypergradient_of,
    padded,
    plain_loop,
    plan_of,
    relative_errors,
    some_rates,
)
from tiny_models import ARCHITECTURES, VARIANTS, tiny_gpt2, tiny_llama, tiny_opt

from reckoning_betty.errors import UserError
from reckoning_betty.inner.fast_weights import FastWeightsPlan, plan_fast_weights
from reckoning_betty.inner.low_rank import LowRank
from reckoning_betty.inner.stacked import Stacked
from reckoning_betty.models.causal_lm import adapted_names, load_pretrained, make_twice_differentiable

FORMS = ["dual", "batched", "mixed"]
TIED = [name for name in ARCHITECTURES if name.endswith(" tied")]


@functools.cache
def expected_of(architecture):
    """The plain loop's hypergradient in float64; ask for it where ``float64_throughout`` holds."""
    assert torch.get_default_dtype() == torch.float64
    model = ARCHITECTURES[architecture](VOCABULARY)
    names = all_names(model)
    return plain_loop(model, names, some_rates(names))


@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "checkpoint"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_plain_loop(architecture, form, checkpoint, float64_throughout):
    model = ARCHITECTURES[architecture](VOCABULARY)
    names = all_names(model)
    plan = plan_of(form, model, names, checkpoint=checkpoint)
    assert_equal(hypergradient_of(model, plan, some_rates(names)), expected_of(architecture), 1e-10)


@pytest.mark.parametrize(
    ("form", "options"), [("looped", {}), ("looped", {"checkpoint": True}), ("swept", {})], ids=str
)
@pytest.mark.parametrize("architecture", TIED)
def test_whole_copies_equal_the_plain_loop(architecture, form, options, float64_throughout):
    model = ARCHITECTURES[architecture](VOCABULARY)
    names = all_names(model)
    plan = plan_of(form, model, names, **options)
    assert_equal(hypergradient_of(model, plan, some_rates(names)), expected_of(architecture), 1e-9)


@pytest.mark.parametrize("form", ["dual", "batched", "looped", "swept"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_the_families_equal_the_plain_loop(variant, form, float64_throughout):
    model = VARIANTS[variant](VOCABULARY)
    names = all_names(model)
    plan = plan_of(form, model, names)
    if (variant, form) == ("phi3 with longrope", "swept"):  # it writes its frequencies into a buffer
        with pytest.raises(UserError, match="cannot map Phi3ForCausalLM"):
            hypergradient_of(model, plan, some_rates(names))
        return
    assert_equal(hypergradient_of(model, plan, some_rates(names)), expected_of_variant(variant), 1e-9)


@functools.cache
def expected_of_variant(variant):
    model = VARIANTS[variant](VOCABULARY)
    return plain_loop(model, all_names(model), some_rates(all_names(model)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_trained_parameter_moves_in_every_step(architecture, float64_throughout):
    # guards the tests above: of what did not move, any rate would do
    expected = expected_of(architecture)
    still = {name for name, gradient in expected.rates.items() if gradient.abs().min() < 1e-9}
    assert still <= {name for name in expected.rates if "opt" in architecture and "k_proj.bias" in name}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_mixed_is_a_mixture(architecture):
    # guards the tests above
    model = ARCHITECTURES[architecture](VOCABULARY)
    fast = plan_of("mixed", model, all_names(model)).start(model, 2)
    assert {type(matrix) for matrix in fast.matrices.values()} == {LowRank, Stacked}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_first_order_is_another_gradient(architecture, float64_throughout):
    # guards the tests above: were second derivatives negligible here, they could not see them missing
    model = ARCHITECTURES[architecture](VOCABULARY)
    names = all_names(model)
    first_order = hypergradient_of(model, plan_of("dual", model, names), some_rates(names), differentiated=0)
    errors = relative_errors(first_order, expected_of(architecture))
    assert min(errors[name] for name in names if "k_proj.bias" not in name) > 0.01


@pytest.mark.parametrize("architecture", TIED)
def test_float32_equals_the_plain_loop_in_float64(architecture, request):
    # here norms and softmax run as transformers has them; lower rates, because at those above rounding grows a
    # thousandfold in three steps, in the plain loop as in every form
    model = ARCHITECTURES[architecture](VOCABULARY)
    names = all_names(model)
    rates = some_rates(names, low=0.01, high=0.06)
    found = {form: hypergradient_of(model, plan_of(form, model, names), rates) for form in (*FORMS, "looped", "swept")}
    request.getfixturevalue("float64_throughout")
    wide = ARCHITECTURES[architecture](VOCABULARY)
    wide.load_state_dict(model.state_dict())
    expected = plain_loop(wide, names, {name: rate.double() for name, rate in rates.items()})
    for form in found:
        assert_equal(found[form], expected, 1e-4)


PARTS = {
    "mlp": (["*mlp*", "*fc*"], 0),
    "top layer": (["*"], 1),
    "biases and norms": (["*bias", "*norm*", "*ln_*"], 0),
    "embeddings": (["*wte*", "*wpe*", "*embed*"], 0),
    "one matrix": (["*h.0.attn.c_attn.weight", "*0.self_attn.v_proj.weight"], 0),
}


WAYS = {
    **{form: {"form": form} for form in ("dual", "batched", "looped")},
    **{f"{form}, checkpoint": {"form": form, "checkpoint": True} for form in ("dual", "batched", "looped")},
    "swept": {"form": "swept"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama, tiny_opt])
def test_adapting_a_part(make, part, way, float64_throughout):
    # theta not adapted gets its gradient too
    model = make(VOCABULARY)
    patterns, top_layers = PARTS[part]
    everything = all_names(model)
    fitting = [pattern for pattern in patterns if fnmatch.filter(everything, pattern)]
    names = adapted_names(model, fitting, top_layers)
    assert 0 < len(names) < len(everything)
    found = hypergradient_of(model, FastWeightsPlan(names=names, **WAYS[way]), some_rates(names))
    assert list(found.parameters) == everything
    assert_equal(found, plain_loop_of_a_part(make, part, tuple(names)), 1e-10)


@functools.cache
def plain_loop_of_a_part(make, part, names):
    return plain_loop(make(VOCABULARY), names, some_rates(names))


PAD = 3
PADDED_FACTS = [[*rows, [9, PAD, 4, PAD, 5]] for rows in FACTS]
PADDED_QUESTIONS = [[*rows, [PAD, 8, PAD, 6]] for rows in QUESTIONS]


@functools.cache
def plain_loop_with_padding_ids(make, tied):
    model = make(VOCABULARY, pad_token_id=PAD, tie_word_embeddings=tied)
    return plain_loop(model, all_names(model), some_rates(all_names(model)), PADDED_FACTS, PADDED_QUESTIONS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("make", [tiny_llama, tiny_opt])
def test_the_row_of_a_padding_id_is_not_learned(make, tied, way, float64_throughout):
    # facts and questions hold the id as a token like others, first, last and in between
    model = make(VOCABULARY, pad_token_id=PAD, tie_word_embeddings=tied)
    assert model.get_input_embeddings().padding_idx == PAD
    names = all_names(model)
    plan = FastWeightsPlan(names=names, **WAYS[way])
    if way == "swept":  # torch.vmap forgets that the row is not to be learned
        with pytest.raises(UserError, match="stands inside a row"):
            hypergradient_of(model, plan, some_rates(names), PADDED_FACTS, PADDED_QUESTIONS, PAD)
        return
    found = hypergradient_of(model, plan, some_rates(names), PADDED_FACTS, PADDED_QUESTIONS, PAD)
    assert_equal(found, plain_loop_with_padding_ids(make, tied), 1e-10)
    table = next(name for name in names if "embed_tokens" in name)
    assert bool(found.parameters[table][PAD].any()) == tied  # nothing but the head


@pytest.fixture
def real(shared, float64_throughout):
    """A model with real weights, and facts and questions in its own tokens."""
    model, tokenizer = load_pretrained(str(shared / "models" / "TinyStories-656K"))
    facts = [
        ["Tom has a red ball and a small blue car.", "The dog is big", "They live near the sea"],
        ["Lily went to the park with mom."],
    ]
    questions = [["Tom's ball is red"], ["Who is in the park? Lily", "Where is she? the park"]]
    facts, questions = ([[tokenizer(t)["input_ids"] for t in task] for task in texts] for texts in (facts, questions))
    return make_twice_differentiable(model).double(), facts, questions


def test_every_form_on_real_weights(real):
    model, facts, questions = real
    names = all_names(model)
    rates = some_rates(names, STEPS, 0.01, 0.05)
    expected = plain_loop(model, names, rates, facts, questions)
    num_tokens = padded(facts).inputs[0].numel()
    for form in ("auto", "dual", "batched", "looped"):
        for checkpoint in (False, True):
            plan = plan_fast_weights(model, names, form, 2, num_tokens, STEPS, checkpoint=checkpoint)
            if form == "auto":
                assert {type(matrix) for matrix in plan.start(model, 2).matrices.values()} == {LowRank, Stacked}
            assert_equal(hypergradient_of(model, plan, rates, facts, questions), expected, 1e-10)
