"""The inner level: fold the facts of every task into its own fast weights."""

from typing import Any

from betty.configs import Config
from torch import Tensor

from reckoning_betty.data.collate import TokenRows
from reckoning_betty.guards import refuse_non_finite
from reckoning_betty.inner.encode import encoding_loss
from reckoning_betty.inner.fast_weights import FastWeights, Form, start_fast_weights
from reckoning_betty.mended_betty import UnrolledProblem


class KnowledgeEncoding(UnrolledProblem):
    """N steps of causal language modelling on the facts alone; the questions are not seen.

    theta_{k+1,l} = theta_{k,l} - alpha[l,k] * grad_l L_CLM(theta_k; K)      (DESIGN.md section 1)

    Reads its sibling ``reasoning`` for the tasks of the outer step, the model theta and the rates alpha. One engine
    iteration is one inner step, so ``Config.unroll_steps`` is N.
    """

    def __init__(self, num_steps: int, form: Form):
        super().__init__("knowledge_encoding", Config(unroll_steps=num_steps))
        self.form = form
        self.losses: list[Tensor] = []
        """L_CLM(theta_k; K) of the current inner loop, one [B] per step, detached."""

    def start(self) -> FastWeights:
        self.reasoning.draw_tasks(self.reasoning.count)  # Betty counts an outer step when it comes to it
        self.losses = []
        meta = self.reasoning.module
        return start_fast_weights(meta.model, meta.adapted, len(self.reasoning.tasks), self.form)

    def get_batch(self) -> TokenRows:
        return self.reasoning.knowledge.facts

    def training_step(self, facts: TokenRows) -> Tensor:
        losses = encoding_loss(self.fast, facts)
        self.losses.append(losses.detach())
        # a sum, not a mean: every task's copy gets the gradient of its own loss alone
        loss = losses.sum()
        outer_step = self.reasoning.count + 1
        refuse_non_finite("inner level (knowledge encoding)", outer_step, self.inner_step, {"L_CLM": loss})
        return loss

    def gradients(self, loss: Tensor, create_graph: bool) -> Any:
        return self.fast.gradients(loss, create_graph)

    def update(self, gradients: Any, inner_step: int) -> FastWeights:
        return self.fast.moved(gradients, self.reasoning.module.rates.at(inner_step))
