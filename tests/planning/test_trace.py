"""Bills: against the same step with values, against measured memory, and part by part."""

import pytest

from problems.methods import build_levels
from reckoning_betty.errors import UserError
from reckoning_betty.planning.batch import BatchShape
from reckoning_betty.planning.check import ALLOWED
from reckoning_betty.planning.configurations import CONFIGURATIONS, GPT2_SMALL, Configuration
from reckoning_betty.planning.ledger import Ledger
from reckoning_betty.planning.measure import measure
from reckoning_betty.planning.outer_step import run
from reckoning_betty.planning.trace import trace

SMALL = {"layers": 1, "width": 32, "vocabulary": 100, "tasks": 2, "batch": BatchShape(facts=2, fact_tokens=9)}
METHODS = {
    "dual": ("unrolled", {"fast_weights": "dual"}),
    "dual, checkpoint": ("unrolled", {"fast_weights": "dual", "checkpoint": True}),
    "looped, AdamW": ("unrolled", {"fast_weights": "looped", "optimizer": "adamw"}),
    "lora": ("truncated", {"fast_weights": "lora"}),
    "swept": ("forward_over_reverse", {}),
    "cg": ("cg", {"proximal": 1.0}),
}


def configuration(method: str, inner: dict, architecture: str = "gpt2", **changed) -> Configuration:
    return Configuration(
        name="", architecture=architecture, method=method, inner={"steps": 2} | inner, **SMALL | changed
    )


@pytest.mark.parametrize(("method", "inner"), METHODS.values(), ids=METHODS)
def test_the_peak_without_values_is_the_peak_with_them(method, inner):
    step = configuration(method, inner).step(build_levels)
    planned = trace(step).bill.peak
    with Ledger() as ledger:  # counts real tensors as well
        levels = step.make_levels()
        ledger.forget_peak()
        run(levels, 2)
    assert planned == pytest.approx(ledger.peak, rel=0.01)


@pytest.mark.parametrize(
    ("architecture", "method", "inner"),
    [("gpt2", "unrolled", {"fast_weights": "batched"}), ("llama", "first_order", {"fast_weights": "dual"})],
    ids=["gpt2", "llama"],
)
def test_the_peak_is_what_a_process_takes(architecture, method, inner):
    large = configuration(method, inner, architecture, width=256, tasks=4, batch=BatchShape(facts=4, fact_tokens=33))
    planned = trace(large.step(build_levels)).bill.peak
    measured = measure(large, build_levels, threads=1)
    assert planned > 60 * 2**20
    assert planned == pytest.approx(measured["peak"], rel=ALLOWED)
    assert len(measured["seconds"]) == large.outer_steps


def test_the_entries():
    looped = configuration("unrolled", {"fast_weights": "looped"}, tasks=3)
    step = looped.step(build_levels)
    parameters = sum(4 * parameter.numel() for parameter in step.make_levels().model.parameters())
    bill = trace(step).bill
    assert bill.weights == pytest.approx(parameters, rel=0.01)  # inner rates beside them
    assert bill.optimizer == pytest.approx(2 * parameters, rel=0.01)
    assert bill.gradients == pytest.approx(parameters, rel=0.01)
    assert bill.fast_weights == 3 * parameters
    assert bill.peak > bill.weights + bill.optimizer + bill.gradients + 2 * bill.activations_per_step


def test_adapters_leave_the_rest_without_gradient():
    lora = trace(configuration("unrolled", {"fast_weights": "lora", "lora_rank": 1}).step(build_levels))
    full = trace(configuration("unrolled", {}).step(build_levels))
    assert lora.trained < 0.2 * full.trained
    assert lora.bill.optimizer < 0.2 * full.bill.optimizer
    assert lora.trained_matrices < lora.matrices


def test_checkpointing_is_seen():
    plain, checkpointed = (
        trace(configuration("unrolled", {"steps": 4, "fast_weights": "dual", "checkpoint": on}).step(build_levels)).bill
        for on in (False, True)
    )
    assert checkpointed.activations_per_step < 0.5 * plain.activations_per_step
    assert checkpointed.peak < plain.peak


def test_a_process_holds_its_share_of_the_tasks():
    four, two = (
        configuration("unrolled", {"fast_weights": "batched"}, tasks=tasks).step(build_levels) for tasks in (4, 2)
    )
    shared, alone = trace(four, devices=2).bill, trace(two).bill
    assert shared.activations_per_step == pytest.approx(alone.activations_per_step, rel=0.01)  # all tasks' tokens
    assert shared.peak == pytest.approx(alone.peak, rel=0.3)  # and gradients on their way
    assert shared.peak >= alone.peak
    uneven = trace(configuration("unrolled", {"fast_weights": "batched"}, tasks=3).step(build_levels), devices=2).bill
    assert uneven.fast_weights == alone.fast_weights  # the larger part, 2 of 3
    with pytest.raises(UserError, match=r"reckoning.tasks_per_step=2 leaves some of 3 devices"):
        trace(two, devices=3)


def test_what_is_checked_is_broad_enough():
    assert len(CONFIGURATIONS) >= 12
    assert {entry.architecture for entry in CONFIGURATIONS} == {"gpt2", "llama"}
    steps = [entry.step(build_levels) for entry in [*CONFIGURATIONS, *GPT2_SMALL]]  # all can be
    assert any(step.config.inner.checkpoint for step in steps)
    assert any(step.config.hypergradient_method.is_implicit for step in steps)
    assert len({(entry.architecture, entry.name) for entry in CONFIGURATIONS}) == len(CONFIGURATIONS)
