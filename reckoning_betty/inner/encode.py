"""Knowledge encoding: N gradient steps on the facts alone (the inner level), outside of training.

Training takes the same steps through Betty, one engine iteration a step (``problems/knowledge_encoding.py``).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from reckoning_betty.data.collate import TokenRows, of_rows
from reckoning_betty.inner.fast_weights import FastWeights
from reckoning_betty.inner.losses import Loss, Reduction, knowledge_nll, nll_of
from reckoning_betty.inner.rates import InnerRates


def encoding_loss(
    fast: FastWeights, facts: TokenRows, all_rows: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """L_CLM(theta_k; K) for each task, [B], or the part that ``facts`` have in it (``knowledge_nll``)."""
    return knowledge_nll(nll_of(fast, facts), facts.scored, facts.rows, all_rows, reduction)


def encoding_losses(facts: TokenRows, facts_per_pass: int = 0, reduction: Reduction = "mean") -> list[Loss]:
    """Functions of fast weights that sum to L_CLM, for as many passes over the facts.

    Args:
        facts: of B tasks.
        facts_per_pass: facts of each task in one pass at most, padding included; 0 for all.
        reduction: over facts.
    """
    number = facts.rows.shape[1]
    size = facts_per_pass or number
    if size >= number:
        return [partial(encoding_loss, facts=facts, reduction=reduction)]
    parts = [of_rows(facts, slice(start, start + size)) for start in range(0, number, size)]
    return [partial(encoding_loss, facts=part, all_rows=facts.rows, reduction=reduction) for part in parts]


@torch.enable_grad()
def encode(
    fast: FastWeights,
    facts: TokenRows,
    rates: InnerRates,
    num_steps: int,
    on_step: Callable[[int, Tensor], None] = lambda step, losses: None,
    facts_per_pass: int = 0,
    reduction: Reduction = "mean",
) -> tuple[FastWeights, Tensor]:
    """Adapt without building a graph from step to step.

    Args:
        fast: theta_0.
        facts: the facts of B tasks.
        rates: alpha; beyond its trained steps its last column goes on.
        num_steps: N.
        on_step: called with the number of steps done and the losses [B] before the next one.
        facts_per_pass, reduction: as ``encoding_losses``.

    Returns:
        theta_N, without history, and the inner losses [N + 1, B] before the first step and after each.
    """
    losses, passes = [], encoding_losses(facts, facts_per_pass, reduction)
    for step in range(num_steps):
        with torch.no_grad():
            alpha = rates.at(step)
        fast, loss = fast.cut().step(passes, alpha, create_graph=False)
        losses.append(loss)
        on_step(step, loss)
    fast = fast.cut()
    with torch.no_grad():
        losses.append(sum(loss_of(fast) for loss_of in passes))
    on_step(num_steps, losses[-1])
    return fast, torch.stack(losses)
