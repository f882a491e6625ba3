"""Fast weights theta_k: the adapted parameters of every task, all connected to the meta-parameters theta.

Interchangeable forms with one interface (``FastWeights``); the two levels do not know which is in use.

=========  =====================================================  ==========================  ======================
form       how a task's matrices are held                         inner optimizers            where it pays
=========  =====================================================  ==========================  ======================
dual       the shared matrix and token factors, ``matrices.py``   gradient descent            wide models, few tokens
batched    one per task, in one pass of the model, ``one_pass``   any                         narrow models
looped     one per task, task by task, ``looped.py``              any                         models unknown to the rest
swept      one per task, the model mapped over them, ``swept``    gradient descent            forward-over-reverse
=========  =====================================================  ==========================  ======================

``lora`` stands for adapters alone (``models/adapters.py``), held in whichever of these ``auto`` takes for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor, nn

from reckoning_betty.errors import UserError
from reckoning_betty.inner.looped import LoopedCopies
from reckoning_betty.inner.losses import Loss
from reckoning_betty.inner.one_pass import OnePassWeights
from reckoning_betty.inner.optimizers import GradientDescent, InnerOptimizer
from reckoning_betty.inner.precision import precision_of
from reckoning_betty.inner.swept import SweptCopies
from reckoning_betty.inner.traps import refuse_silent_traps

Form = Literal["auto", "dual", "batched", "looped", "lora"]

MEMORY_LIMIT = 2 * 2**30
"""Bytes of task copies over all inner steps from which ``auto`` goes by memory instead of speed."""


class FastWeights(Protocol):
    """theta_k of B tasks. Immutable: ``step`` returns theta_{k+1}. Letters: R rows, T tokens, V vocabulary."""

    def logits(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """Next-token logits [B, R, T, V] for token ids [B, R, T], each task under its own weights.

        With ``positions`` [B, R, T] rows are packed (``data/packing.py``).
        """

    def step(
        self, loss_of: Loss | Sequence[Loss], rates: dict[str, Tensor], create_graph: bool
    ) -> tuple["FastWeights", Tensor]:
        """theta_{k+1} and the losses [B] under theta_k (``OnePassWeights.step`` has the details)."""

    def cut(self) -> "FastWeights":
        """The same values without history, for evaluation, where no hypergradient is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FastWeightsPlan:
    """Which form a model's fast weights take.

    Args:
        names: the adapted parameters.
        form: ``dual``, ``batched``, ``looped``, ``swept``, or ``mixed``: dual where it is cheaper, matrix by matrix.
        optimizer: the inner one.
        checkpoint: keep no graph of an inner step until the hypergradient comes back to it.
        num_steps: N, for which memory is reserved; more steps are possible.
        dual_limit: for ``mixed``, matrices [out, in] with in * out / (in + out) above it take the dual form.
        reason: one sentence for people.
    """

    names: Sequence[str]
    form: Literal["dual", "batched", "looped", "swept", "mixed"]
    optimizer: InnerOptimizer = field(default_factory=GradientDescent)
    checkpoint: bool = False
    num_steps: int = 1
    dual_limit: float = 0.0
    reason: str = ""

    def start(self, model: nn.Module, num_tasks: int) -> FastWeights:
        """theta_0 = theta for every task.

        Raises:
            UserError: the model would give wrong numbers (``traps.py``), or its precision asks for another form.
        """
        refuse_silent_traps(model, self.names)
        if self.form in ("looped", "swept") and precision_of(model) != "float32":
            raise UserError(
                f"The {self.form} form of fast weights runs the model's own products, in float32 alone: "
                f"take inner.fast_weights=batched, or model.precision=float32 instead of {precision_of(model)}."
            )
        if self.form == "looped":
            return LoopedCopies.start(model, self.names, num_tasks, self.optimizer, self.checkpoint)
        if self.form == "swept":
            return SweptCopies.start(model, self.names, num_tasks)
        return OnePassWeights.start(
            model, self.names, num_tasks, self.optimizer, self._is_low_rank, self.checkpoint, self.num_steps
        )

    def _is_low_rank(self, rows: int, columns: int) -> bool:
        if self.form == "mixed":
            return balance(rows, columns) > self.dual_limit
        return self.form == "dual"


def plan_fast_weights(
    model: nn.Module,
    names: Sequence[str],
    form: Form,
    num_tasks: int,
    num_tokens: int,
    num_steps: int,
    optimizer: InnerOptimizer | None = None,
    checkpoint: bool = False,
    forward_over_reverse: bool = False,
) -> FastWeightsPlan:
    """Choose a form where ``auto`` is asked for, else take the one that is.

    The dual form corrects each product by rank N * n (n tokens a task), at N n (in + out) operations a token; a copy
    costs in * out a token to update and to differentiate, and its memory. So a matrix takes the dual form where
    N n < in out / (in + out) (DESIGN.md section 3), and where copies of all steps would fill ``MEMORY_LIMIT``.

    Args:
        num_tasks: B.
        num_tokens: n, tokens of one task's facts, padding included.
        num_steps: N.
        forward_over_reverse: take the form in which a step's part of the hypergradient is a directional derivative.
    """
    optimizer = optimizer or GradientDescent()
    if forward_over_reverse:
        return FastWeightsPlan(names=names, form="swept", reason="swept, the form of forward-over-reverse alone")
    given = {"names": names, "optimizer": optimizer, "checkpoint": checkpoint, "num_steps": num_steps}
    if form not in ("auto", "lora"):
        return FastWeightsPlan(form=form, reason=f"{form}, as asked for", **given)
    parameters = dict(model.named_parameters())
    matrices = [parameters[name] for name in names if parameters[name].ndim == 2]
    copies = num_steps * num_tasks * sum(matrix.numel() * matrix.element_size() for matrix in matrices)
    if not optimizer.linear:
        if copies > MEMORY_LIMIT:
            reason = f"looped, because batched copies of {num_steps} steps would take {_gib(copies)}"
            return FastWeightsPlan(form="looped", reason=reason, **given)
        reason = "batched, because the dual form needs gradient descent"
        return FastWeightsPlan(form="batched", reason=reason, **given)
    limit, rule = num_steps * num_tokens, f"N * tokens = {num_steps} * {num_tokens} against in * out / (in + out)"
    if copies > MEMORY_LIMIT:
        # what each form keeps of a step: in * out elements, or the factors and their cotangents
        limit = min(limit, 2 * num_tokens)
        rule += f"; task copies would take {_gib(copies)}"
    dual = sum(balance(*matrix.shape) > limit for matrix in matrices)
    reason = f"dual for {dual} and batched for {len(matrices) - dual} of {len(matrices)} matrices ({rule})"
    return FastWeightsPlan(form="mixed", dual_limit=limit, reason=reason, **given)


def balance(rows: int, columns: int) -> float:
    """in * out / (in + out): the rank at which token factors cost as much as the matrix itself."""
    return rows * columns / (rows + columns)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
