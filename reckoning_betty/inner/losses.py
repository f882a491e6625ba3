"""The losses of both levels, per task. Letters: B tasks, R rows (facts or questions), T tokens, V vocabulary.

Logits are those of the first T-1 tokens: nothing follows the last one, so no model needs to read it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Any], Tensor]
"""The tasks' losses [B], or a part of them, as a function of fast weights (``FastWeights``)."""


def parts_of(loss_of: Loss | Sequence[Loss]) -> list[Loss]:
    """What an inner step differentiates one after the other: a loss, or several that sum to it."""
    return [loss_of] if callable(loss_of) else list(loss_of)


def token_nll(logits: Tensor, tokens: Tensor) -> Tensor:
    """Negative log-likelihood [B, R, T-1] in nats of tokens 1..T-1 given what stands before them."""
    nll = F.cross_entropy(logits.flatten(0, -2), tokens[..., 1:].flatten(), reduction="none")
    return nll.view(tokens[..., 1:].shape)


def knowledge_nll(
    logits: Tensor, tokens: Tensor, scored: Tensor, rows: Tensor, all_rows: Tensor | None = None
) -> Tensor:
    """L_CLM [B]: mean token NLL per fact, then the mean over the facts that ``rows`` selects.

    L_CLM(theta; K) = 1/|K| sum_f 1/|f| sum_t -log p(f_t | f_<t; theta)      (DESIGN.md section 1)

    Args:
        logits: [B, R, T-1, V], of the rows' inputs.
        tokens: ids [B, R, T].
        scored: bool [B, R, T]; which tokens count (not padding, not a prompt; the first token of a row never does).
        rows: bool [B, R]; which facts count. A task without any gives 0.
        all_rows: bool [B, R']; all of K, where these rows are a part of it: the parts' losses then sum to L_CLM.
    """
    weights = scored[..., 1:].to(logits.dtype)
    per_fact = (token_nll(logits, tokens) * weights).sum(-1) / weights.sum(-1).clamp(min=1)
    return _mean_of(per_fact, rows, all_rows)


def answer_nll(logits: Tensor, tokens: Tensor, scored: Tensor, rows: Tensor) -> Tensor:
    """L_CE [B]: -log p(y | x) in nats, the answer's tokens summed, then the mean over the task's questions."""
    weights = scored[..., 1:].to(logits.dtype)
    return _mean_of((token_nll(logits, tokens) * weights).sum(-1), rows)


def _mean_of(values: Tensor, rows: Tensor, all_rows: Tensor | None = None) -> Tensor:
    weights = rows.to(values.dtype)
    count = (rows if all_rows is None else all_rows).to(values.dtype).sum(-1)
    return (values * weights).sum(-1) / torch.clamp(count, min=1)
