"""The losses of both levels, per task. Letters: B tasks, R rows (facts or questions), T tokens, V vocabulary.

Models read the first T-1 tokens: nothing follows the last one.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from typing import Literal as OneOf

import torch
import torch.nn.functional as F
from torch import Tensor

from reckoning_betty.data.collate import TokenRows

Reduction = OneOf["mean", "sum"]
"""Over the facts of a task: their mean (the paper), or their sum, so that a fact has the same gradient in any K."""

UNIT: dict[Reduction, str] = {"mean": "nats per token", "sum": "nats per token, summed"}
"""Of the inner loss."""

Loss = Callable[[Any], Tensor]
"""The tasks' losses [B], or a part of them, as a function of fast weights (``FastWeights``)."""


class Reader(Protocol):
    """Gives the next token's logits."""

    def logits(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """[B, R, T, V] for token ids [B, R, T]; with ``positions`` [B, R, T] rows are packed (``data/packing.py``)."""


def parts_of(loss_of: Loss | Sequence[Loss]) -> list[Loss]:
    """What an inner step differentiates one after the other: a loss, or several that sum to it."""
    return [loss_of] if callable(loss_of) else list(loss_of)


def token_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood [...] in nats of each of ``targets`` [...] by ``logits`` [..., V]."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)


def nll_of(reader: Reader, rows: TokenRows) -> Tensor:
    """Negative log-likelihood [B, R, T-1] in nats of each row's tokens 1..T-1 given what stands before them.

    Args:
        reader: fast weights, or what else gives logits.
        rows: packed or not; what it gives for padding is of no use.
    """
    packing = rows.packing
    if packing is None:
        return token_nll(reader.logits(rows.inputs), rows.targets)
    logits = reader.logits(packing.packed(rows.inputs), packing.positions)
    return packing.unpacked(token_nll(logits, packing.packed(rows.targets)))


def knowledge_nll(
    nll: Tensor, scored: Tensor, rows: Tensor, all_rows: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """L_CLM [B]: mean token NLL per fact, then the mean or the sum over the facts that ``rows`` selects.

    L_CLM(theta; K) = 1/|K| sum_f 1/|f| sum_t -log p(f_t | f_<t; theta)      (DESIGN.md section 1; sum: |K| times it)

    Args:
        nll: of the tokens after the first, [B, R, T-1] (``nll_of``).
        scored: bool [B, R, T]; which tokens count (not padding, not a prompt; the first token of a row never does).
        rows: bool [B, R]; which facts count. A task without any gives 0.
        all_rows: bool [B, R']; all of K, where these rows are a part of it: the parts' losses then sum to L_CLM.
        reduction: over facts.
    """
    weights = scored[..., 1:].to(nll.dtype)
    per_fact = (nll * weights).sum(-1) / weights.sum(-1).clamp(min=1)
    if reduction == "sum":
        return (per_fact * rows.to(per_fact.dtype)).sum(-1)
    return _mean_of(per_fact, rows, all_rows)


def answer_nll(nll: Tensor, scored: Tensor, rows: Tensor) -> Tensor:
    """L_CE [B]: -log p(y | x) in nats, the answer's tokens summed, then the mean over the task's questions."""
    return _mean_of((nll * scored[..., 1:].to(nll.dtype)).sum(-1), rows)


def _mean_of(values: Tensor, rows: Tensor, all_rows: Tensor | None = None) -> Tensor:
    weights = rows.to(values.dtype)
    count = (rows if all_rows is None else all_rows).to(values.dtype).sum(-1)
    return (values * weights).sum(-1) / torch.clamp(count, min=1)
