"""One outer step by each of this project's forms of fast weights, and by the reference that all are checked against."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from reckoning_betty.benchmark.workload import Workload, task_losses
from reckoning_betty.inner.fast_weights import FastWeightsPlan, Form, plan_fast_weights

CHECKPOINT = "+checkpoint"
"""What stands behind the name of a form that keeps no graph of its inner steps."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An engine that is ready for outer steps on one workload.

    Args:
        step: adds the hypergradient of one outer step to ``.grad`` of the model's parameters and of ``rates``.
        form: in which fast weights are held, in a word or three.
        rates: those that get a hypergradient: the workload's, or one of the engine's own under ``SHARED_RATE``.
        note: what people should know, in a sentence.
    """

    step: Callable[[], None]
    form: str
    rates: dict[str, Tensor] = field(default_factory=dict)
    note: str = ""


def prepare_ours(workload: Workload, form: Form, checkpoint: bool) -> Prepared:
    """All tasks together, in the given form."""
    shape = workload.shape
    plan = plan_fast_weights(
        workload.model,
        workload.names,
        form,
        num_tasks=shape.tasks,
        num_tokens=shape.facts * (shape.tokens - 1),
        num_steps=shape.inner_steps,
        checkpoint=checkpoint,
    )

    def step() -> None:
        outer_loss(workload, plan, workload.facts, workload.questions).backward()

    return Prepared(step, plan.form, workload.rates, plan.reason)


def prepare_reference(workload: Workload) -> Prepared:
    """The looped form, one task and one inner step in memory at a time, so that it fits wherever anything fits."""
    plan = plan_fast_weights(
        workload.model,
        workload.names,
        "looped",
        num_tasks=1,
        num_tokens=workload.shape.facts * (workload.shape.tokens - 1),
        num_steps=workload.shape.inner_steps,
        checkpoint=True,
    )

    def step() -> None:
        for facts, questions in zip(workload.facts.split(1), workload.questions.split(1), strict=True):
            (outer_loss(workload, plan, facts, questions) / workload.shape.tasks).backward()

    return Prepared(step, plan.form, workload.rates)


def outer_loss(workload: Workload, plan: FastWeightsPlan, facts: Tensor, questions: Tensor) -> Tensor:
    """Mean over tasks of the questions' loss under theta_N, with the graph of all inner steps."""
    fast = plan.start(workload.model, facts.shape[0])
    for k in range(workload.shape.inner_steps):
        rates = {name: rate[k] for name, rate in workload.rates.items()}
        fast, _ = fast.step(lambda now: task_losses(now.logits(facts[..., :-1]), facts), rates, create_graph=True)
    return task_losses(fast.logits(questions[..., :-1]), questions).mean()


OURS: tuple[Form, ...] = ("auto", "dual", "batched", "looped")
REFERENCE = "reference"
SHARED_RATE = "all parameters"
"""The name of a rate that moves every parameter, one for each inner step."""
