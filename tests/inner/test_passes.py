"""Inner steps that read the facts in several passes: the same step, in less memory."""

import functools

import pytest
import torch
from allocations import AllocatedBytes
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
from tiny_models import tiny_gpt2, tiny_llama

from reckoning_betty.inner.encode import encode, encoding_loss, encoding_losses
from reckoning_betty.inner.fast_weights import FastWeightsPlan
from reckoning_betty.inner.optimizers import AdamW, GradientDescent, Proximal
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.adapters import add_adapters
from reckoning_betty.models.causal_lm import layer_names

WAYS = {
    **{form: {"form": form} for form in ("dual", "batched", "mixed", "looped")},
    **{f"{form}, checkpoint": {"form": form, "checkpoint": True} for form in ("dual", "batched", "mixed", "looped")},
    "swept": {"form": "swept"},
}
OPTIMIZERS = {"adamw": AdamW(epsilon=1e-3), "proximal": Proximal(GradientDescent(), 0.5)}


def found_by(way, model, facts_per_pass, differentiated=None, low=0.05, **options):
    names = all_names(model)
    options = WAYS[way] | options
    plan = plan_of(options.pop("form"), model, names, **options)
    return hypergradient_of(
        model, plan, some_rates(names, low=low), differentiated=differentiated, facts_per_pass=facts_per_pass
    )


@functools.cache
def plain_loop_of(make, differentiated):
    """Reads one fact at a time; ask for it where ``float64_throughout`` holds."""
    model = make(VOCABULARY)
    return plain_loop(model, all_names(model), some_rates(all_names(model)), differentiated=differentiated)


@pytest.mark.parametrize(
    ("make", "facts_per_pass", "differentiated"),
    [(tiny_gpt2, 1, STEPS), (tiny_llama, 2, STEPS), (tiny_gpt2, 2, 1), (tiny_gpt2, 2, 0)],
    ids=["unrolled", "unrolled llama", "truncated", "first-order"],
)
@pytest.mark.parametrize("way", WAYS)
def test_hypergradient_equals_the_plain_loop(make, way, facts_per_pass, differentiated, float64_throughout):
    assert max(map(len, FACTS)) > 2 > min(map(len, FACTS))  # 3 passes or 2, some of them without a fact of some task
    found = found_by(way, make(VOCABULARY), facts_per_pass, differentiated)
    assert_equal(found, plain_loop_of(make, differentiated), 1e-10)
    assert_equal(found, found_by(way, make(VOCABULARY), 0, differentiated), 1e-12)


@pytest.mark.parametrize("differentiated", [STEPS, 0], ids=["unrolled", "first-order"])
@pytest.mark.parametrize("way", ["batched", "batched, checkpoint", "looped", "looped, checkpoint"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_other_inner_optimizers_get_the_whole_gradient(optimizer, way, differentiated, float64):
    options = {"low": 0.01, "optimizer": OPTIMIZERS[optimizer], "differentiated": differentiated}
    expected = found_by(way, tiny_gpt2(VOCABULARY), 0, **options)
    for facts_per_pass in (1, 2):
        assert_equal(found_by(way, tiny_gpt2(VOCABULARY), facts_per_pass, **options), expected, 1e-9)


@pytest.mark.parametrize("way", ["dual", "batched", "dual, checkpoint", "batched, checkpoint", "looped"])
def test_adapters(way, float64):
    def adapted():
        model = tiny_gpt2(VOCABULARY)
        torch.manual_seed(3)
        add_adapters(model, rank=2, alpha=4.0, targets=["all-linear"])
        with torch.no_grad():  # B starts at 0, where much is
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.3)
        return model

    expected = found_by(way, adapted(), 0)
    for facts_per_pass in (1, 2):
        assert_equal(found_by(way, adapted(), facts_per_pass), expected, 1e-11)


def test_parts_sum_to_the_mean_over_all_facts(float64):
    model, facts = tiny_gpt2(VOCABULARY), padded(FACTS)
    fast = FastWeightsPlan(names=all_names(model), form="dual").start(model, len(FACTS))
    for size, number in ((0, 1), (1, 3), (2, 2), (3, 1), (9, 1)):
        parts = encoding_losses(facts, size)
        assert len(parts) == number
        torch.testing.assert_close(sum(part(fast) for part in parts), encoding_loss(fast, facts), rtol=1e-13, atol=0)


def rates_of(model, names, num_steps=STEPS):
    layers = layer_names(model)
    return InnerRates({name: layers[name] for name in names}, num_steps, 0.1)


@pytest.mark.parametrize("way", [way for way in WAYS if "checkpoint" not in way])
def test_evaluation_takes_the_same_steps(way, float64):
    model, facts, ids = tiny_gpt2(VOCABULARY), padded(FACTS), torch.tensor([[[3, 4, 5]]] * len(FACTS))
    names = all_names(model)
    logits, losses = [], []
    for facts_per_pass in (0, 1, 2):
        start = plan_of(WAYS[way]["form"], model, names).start(model, len(FACTS))
        fast, found = encode(start, facts, rates_of(model, names), STEPS, facts_per_pass=facts_per_pass)
        logits.append(fast.logits(ids))
        losses.append(found)
    for number in (1, 2):
        torch.testing.assert_close(logits[number], logits[0], rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(losses[number], losses[0], rtol=1e-11, atol=0)


# Memory. Many facts and a vocabulary that outgrows the width, as in real decoders: logits and attention fill it.

MANY = [[[3 + (7 * fact + token) % 90 for token in range(16)] for fact in range(8)] for _ in range(2)]
WIDE = {"n_embd": 16, "n_positions": 64}


def peak_of_steps(form, facts_per_pass, second_order, checkpoint=False, backward=True, num_steps=2):
    """The most bytes at once, in inner steps and, if wanted, in the backward pass through them."""
    model = tiny_gpt2(100, **WIDE)
    names, facts = all_names(model), padded(MANY)
    alpha = {name: torch.tensor(0.01, requires_grad=True) for name in names}
    plan = FastWeightsPlan(names=names, form=form, checkpoint=checkpoint, num_steps=num_steps)
    with AllocatedBytes() as allocated:
        fast = plan.start(model, len(MANY))
        for _ in range(num_steps):
            fast, _ = fast.step(encoding_losses(facts, facts_per_pass), alpha, create_graph=second_order)
        if backward:
            fast.logits(facts.inputs[:, :1, :3]).logsumexp(-1).sum().backward()
    return allocated.peak


def peak_of_evaluation(form, facts_per_pass, num_steps=2):
    model = tiny_gpt2(100, **WIDE)
    names, facts = all_names(model), padded(MANY)
    with AllocatedBytes() as allocated:
        start = FastWeightsPlan(names=names, form=form, num_steps=num_steps).start(model, len(MANY))
        encode(start, facts, rates_of(model, names, num_steps), num_steps, facts_per_pass=facts_per_pass)
    return allocated.peak


@pytest.mark.parametrize(
    ("form", "most"), [("dual", 0.75), ("batched", 0.7), ("looped", 0.4)], ids=lambda value: str(value)
)
def test_recomputed_steps_take_less_memory(form, most):
    """Each pass is recomputed by itself; what stays are the state and, in looped copies, the gradients' sum."""
    found = peak_of_steps(form, 1, True, checkpoint=True)
    assert found < most * peak_of_steps(form, 0, True, checkpoint=True)


@pytest.mark.parametrize(("form", "most"), [("dual", 0.9), ("batched", 0.9), ("looped", 0.5)], ids=str)
def test_steps_without_a_graph_take_less_memory(form, most):
    # of the first two little: most of it are the tokens' factors, which the rates' gradients need
    assert peak_of_steps(form, 1, False, backward=False) < most * peak_of_steps(form, 0, False, backward=False)


@pytest.mark.parametrize("second_order", [False, True])
def test_forward_over_reverse_takes_less_memory(second_order):
    assert peak_of_steps("swept", 1, second_order) < 0.4 * peak_of_steps("swept", 0, second_order)


@pytest.mark.parametrize(("form", "most"), [("dual", 0.7), ("batched", 0.4), ("looped", 0.5), ("swept", 0.4)], ids=str)
def test_evaluation_takes_less_memory(form, most):
    assert peak_of_evaluation(form, 1) < most * peak_of_evaluation(form, 0)
