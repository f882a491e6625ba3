"""Knowledge encoding: N gradient steps on the facts alone (the inner level), outside of training.

Training takes the same steps through Betty, one engine iteration a step (``problems/knowledge_encoding.py``).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from reckoning_betty.data.collate import TokenRows
from reckoning_betty.inner.fast_weights import FastWeights
from reckoning_betty.inner.losses import knowledge_nll
from reckoning_betty.inner.rates import InnerRates


def encoding_loss(fast: FastWeights, facts: TokenRows) -> Tensor:
    """L_CLM(theta_k; K) for each task, [B]."""
    return knowledge_nll(fast.logits(facts.inputs), facts.tokens, facts.scored, facts.rows)


@torch.enable_grad()
def encode(
    fast: FastWeights,
    facts: TokenRows,
    rates: InnerRates,
    num_steps: int,
    on_step: Callable[[int, Tensor], None] = lambda step, losses: None,
) -> tuple[FastWeights, Tensor]:
    """Adapt without building a graph from step to step.

    Args:
        fast: theta_0.
        facts: the facts of B tasks.
        rates: alpha; beyond its trained steps its last column goes on.
        num_steps: N.
        on_step: called with the number of steps done and the losses [B] before the next one.

    Returns:
        theta_N, without history, and the inner losses [N + 1, B] before the first step and after each.
    """
    losses = []
    for step in range(num_steps):
        with torch.no_grad():
            alpha = rates.at(step)
        fast, loss = fast.cut().step(lambda now: encoding_loss(now, facts), alpha, create_graph=False)
        losses.append(loss)
        on_step(step, loss)
    fast = fast.cut()
    with torch.no_grad():
        losses.append(encoding_loss(fast, facts))
    on_step(num_steps, losses[-1])
    return fast, torch.stack(losses)
