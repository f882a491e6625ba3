"""The inner level: fold the facts of every task into its own fast weights."""

from collections.abc import Callable

from betty.configs import Config
from torch import Tensor

from reckoning_betty.data.collate import TokenRows
from reckoning_betty.guards import refuse_non_finite
from reckoning_betty.inner.encode import encoding_loss
from reckoning_betty.inner.fast_weights import FastWeights, FastWeightsPlan
from reckoning_betty.mended_betty import UnrolledProblem


class KnowledgeEncoding(UnrolledProblem):
    """N steps of causal language modelling on the facts alone; the questions are not seen.

    theta_{k+1,l} = theta_{k,l} - alpha[l,k] * grad_l L_CLM(theta_k; K)      (DESIGN.md section 1)

    Reads its sibling ``reasoning`` for the tasks of the outer step, the model theta and the rates alpha. One engine
    iteration is one inner step, so ``Config.unroll_steps`` is N.

    Args:
        num_steps: N.
        plan: how the fast weights are held.
        differentiates: whether the hypergradient passes through the gradient of inner step k.
    """

    def __init__(self, num_steps: int, plan: FastWeightsPlan, differentiates: Callable[[int], bool]):
        super().__init__("knowledge_encoding", Config(unroll_steps=num_steps))
        self.plan = plan
        self.differentiates = differentiates
        self.losses: list[Tensor] = []
        """L_CLM(theta_k; K) of the current inner loop, one [B] per step, detached."""

    def start(self) -> FastWeights:
        self.reasoning.draw_tasks(self.reasoning.count)  # Betty counts an outer step when it comes to it
        self.losses = []
        return self.plan.start(self.reasoning.module.model, len(self.reasoning.tasks))

    def get_batch(self) -> TokenRows:
        return self.reasoning.knowledge.facts

    def moved(self, fast: FastWeights, facts: TokenRows, inner_step: int) -> tuple[FastWeights, Tensor]:
        rates = self.reasoning.module.rates.at(inner_step)
        second_order = self.differentiates(inner_step)
        moved, losses = fast.step(lambda now: encoding_loss(now, facts), rates, create_graph=second_order)
        self.losses.append(losses)
        outer_step, loss = self.reasoning.count + 1, losses.sum()
        refuse_non_finite("inner level (knowledge encoding)", outer_step, inner_step, {"L_CLM": loss})
        return moved, loss
