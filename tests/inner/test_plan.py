"""Which form ``auto`` takes and what it says, and what truncated hypergradients are."""

import functools

import pytest
import torch
from reference import (
    STEPS,
    VOCABULARY,
    all_names,
    assert_equal,
    hypergradient_of,
    plain_loop,
    plan_of,
    relative_errors,
    some_rates,
)
from tiny_models import tiny_gpt2
from torch import nn
from transformers import GPT2Config, PreTrainedModel

from reckoning_betty.inner import fast_weights
from reckoning_betty.inner.fast_weights import balance, plan_fast_weights
from reckoning_betty.inner.looped import LoopedCopies
from reckoning_betty.inner.low_rank import LowRank
from reckoning_betty.inner.optimizers import AdamW, GradientDescent
from reckoning_betty.inner.stacked import Stacked
from reckoning_betty.inner.swept import SweptCopies

WAYS = {
    **{form: {"form": form} for form in ("dual", "batched", "mixed", "looped")},
    **{f"{form}, checkpoint": {"form": form, "checkpoint": True} for form in ("dual", "batched", "looped")},
    "swept": {"form": "swept"},
}


class Layers(PreTrainedModel):
    """Matrices [12, 6] and [30, 20], of balance 4 and 12, each with a bias."""

    def __init__(self):
        super().__init__(GPT2Config(attn_implementation="eager"))
        self.small, self.large = nn.Linear(6, 12), nn.Linear(20, 30)


@pytest.fixture
def layers():
    return Layers().eval()


def kinds(plan, model, num_tasks=2):
    return {name: type(matrix) for name, matrix in plan.start(model, num_tasks).matrices.items()}


def planned(model, form="auto", num_tasks=2, num_tokens=1, num_steps=1, **options):
    names = [name for name, _ in model.named_parameters()]
    return plan_fast_weights(model, names, form, num_tasks, num_tokens, num_steps, **options)


def test_balance():
    assert balance(12, 6) == balance(6, 12) == 4
    assert balance(20, 30) == 12


@pytest.mark.parametrize(
    ("num_steps", "num_tokens", "small", "large"),
    [
        (1, 3, LowRank, LowRank),
        (3, 1, LowRank, LowRank),
        (1, 4, Stacked, LowRank),
        (2, 2, Stacked, LowRank),
        (1, 11, Stacked, LowRank),
        (1, 12, Stacked, Stacked),
        (3, 4, Stacked, Stacked),
        (4, 3, Stacked, Stacked),
    ],
)
def test_a_matrix_is_dual_where_steps_times_tokens_is_below_its_balance(num_steps, num_tokens, small, large, layers):
    plan = planned(layers, num_steps=num_steps, num_tokens=num_tokens)
    assert plan.form == "mixed"
    assert kinds(plan, layers) == {"small.weight": small, "large.weight": large}
    count = [small, large].count(LowRank)
    assert f"dual for {count} and batched for {2 - count} of 2 matrices" in plan.reason
    assert f"N * tokens = {num_steps} * {num_tokens}" in plan.reason


def test_the_number_of_tasks_does_not_matter_where_memory_does_not(layers):
    plans = [planned(layers, num_tasks=tasks, num_tokens=6) for tasks in (1, 1000)]
    assert kinds(plans[0], layers) == kinds(plans[1], layers)


def test_where_copies_would_fill_memory_it_counts_what_a_step_keeps(layers, monkeypatch):
    num_steps, num_tasks, num_tokens = 10, 2, 3  # by speed 30 against 4 and 12: batched; by memory 6 against them
    copies = num_steps * num_tasks * (12 * 6 + 30 * 20) * 4
    for limit, expected in ((copies, Stacked), (copies - 1, LowRank)):
        monkeypatch.setattr(fast_weights, "MEMORY_LIMIT", limit)
        plan = planned(layers, num_tasks=num_tasks, num_tokens=num_tokens, num_steps=num_steps)
        assert kinds(plan, layers) == {"small.weight": Stacked, "large.weight": expected}
        assert ("task copies would take" in plan.reason) == (expected is LowRank)


def test_memory_never_takes_the_dual_form_away(layers, monkeypatch):
    monkeypatch.setattr(fast_weights, "MEMORY_LIMIT", 0)
    plan = planned(layers, num_steps=1, num_tokens=11)  # by speed 11 against 12; by memory 22 against 12
    assert kinds(plan, layers) == {"small.weight": Stacked, "large.weight": LowRank}


def test_doubles_take_twice_the_memory(layers, monkeypatch):
    monkeypatch.setattr(fast_weights, "MEMORY_LIMIT", 10 * 2 * (12 * 6 + 30 * 20) * 4)
    layers.double()
    assert "task copies would take" in planned(layers, num_tokens=3, num_steps=10).reason


def test_adamw_is_batched_while_copies_fit(layers, monkeypatch):
    plan = planned(layers, optimizer=AdamW())
    assert plan.form == "batched"
    assert plan.optimizer == AdamW()
    assert plan.reason == "batched, because the dual form needs gradient descent"
    assert kinds(plan, layers) == {}
    monkeypatch.setattr(fast_weights, "MEMORY_LIMIT", 100)
    plan = planned(layers, optimizer=AdamW(), num_steps=7)
    assert plan.form == "looped"
    assert plan.reason.startswith("looped, because batched copies of 7 steps would take ")


def test_forward_over_reverse_has_a_form_of_its_own(layers):
    plan = planned(layers, forward_over_reverse=True)
    assert plan.form == "swept"
    assert plan.reason == "swept, the form of forward-over-reverse alone"
    assert isinstance(plan.start(layers, 2), SweptCopies)


@pytest.mark.parametrize("form", ["dual", "batched", "looped"])
def test_a_form_that_is_asked_for_is_taken(form, layers):
    plan = planned(layers, form, num_tokens=10**6, checkpoint=True)
    assert (plan.form, plan.reason, plan.checkpoint) == (form, f"{form}, as asked for", True)
    fast = plan.start(layers, 2)
    assert fast.checkpoint
    assert fast.optimizer == GradientDescent()
    if form == "looped":
        assert isinstance(fast, LoopedCopies)
    else:
        assert set(kinds(plan, layers).values()) == {LowRank if form == "dual" else Stacked}


@pytest.mark.parametrize("form", ["auto", "lora"])
def test_checkpoint_goes_with_what_is_chosen(form, layers):
    assert planned(layers, form, checkpoint=True).start(layers, 2).checkpoint
    assert planned(layers, form, checkpoint=True, optimizer=AdamW()).start(layers, 2).checkpoint


@functools.cache
def plain_loop_of(differentiated):
    model = tiny_gpt2(VOCABULARY)
    names = all_names(model)
    return plain_loop(model, names, some_rates(names), differentiated=differentiated)


@pytest.mark.parametrize("differentiated", range(STEPS + 1))
@pytest.mark.parametrize("way", WAYS)
def test_truncation(way, differentiated, float64):
    model = tiny_gpt2(VOCABULARY)
    names = all_names(model)
    options = dict(WAYS[way])
    plan = plan_of(options.pop("form"), model, names, **options)
    found = hypergradient_of(model, plan, some_rates(names), differentiated=differentiated)
    assert_equal(found, plain_loop_of(differentiated), 1e-10)
    unrolled = plain_loop_of(None)
    if differentiated == STEPS:
        assert_equal(found, unrolled, 1e-10)
    else:
        errors = relative_errors(found, unrolled)
        assert min(errors[name] for name in names) > 1e-3
    torch.testing.assert_close(found.outer_loss, unrolled.outer_loss)


@pytest.mark.parametrize("way", WAYS)
def test_cut_keeps_values_and_drops_history(way, float64):
    model = tiny_gpt2(VOCABULARY)
    names = all_names(model)
    options = dict(WAYS[way])
    ids = torch.tensor([[[3, 4, 5]], [[6, 7, 8]]])
    rates = {name: rate[0].requires_grad_() for name, rate in some_rates(names).items()}
    fast = plan_of(options.pop("form"), model, names, **options).start(model, 2)
    fast, _ = fast.step(lambda now: now.logits(ids).logsumexp(-1).sum((1, 2)), rates, create_graph=True)
    kept, cut = fast.logits(ids), fast.cut().logits(ids)
    torch.testing.assert_close(cut, kept, rtol=0, atol=0)
    wanted = [*model.parameters(), *rates.values()]
    assert any(gradient is not None for gradient in torch.autograd.grad(kept.sum(), wanted, allow_unused=True))
    assert all(gradient is None for gradient in torch.autograd.grad(cut.sum(), wanted, allow_unused=True))
