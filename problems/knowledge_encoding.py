"""The inner level: fold the facts of every task into its own fast weights."""

from typing import Any

import torch
from torch import Tensor

from reckoning_betty.data.collate import TokenRows
from reckoning_betty.distributed.sharding import gathered
from reckoning_betty.guards import refuse_non_finite
from reckoning_betty.hypergradients.implicit import ImplicitMethod
from reckoning_betty.hypergradients.method import HypergradientMethod
from reckoning_betty.inner.encode import encoding_loss, encoding_losses
from reckoning_betty.inner.fast_weights import FastWeights, FastWeightsPlan
from reckoning_betty.inner.losses import Reduction
from reckoning_betty.inner.one_pass import OnePassWeights
from reckoning_betty.inner.optimizers import Proximal
from reckoning_betty.mended_betty import ImplicitInnerProblem, UnrolledProblem


class KnowledgeEncoding(UnrolledProblem):
    """N steps of causal language modelling on the facts alone; the questions are not seen.

    theta_{k+1,l} = theta_{k,l} - alpha[l,k] * grad_l L_CLM(theta_k; K)      (DESIGN.md section 1)

    Reads its sibling ``reasoning`` for the tasks of the outer step, the model theta and the rates alpha. One engine
    iteration is one inner step, so ``Config.unroll_steps`` is N.

    Args:
        num_steps: N.
        plan: how the fast weights are held.
        method: says through which steps' gradients the hypergradient passes.
        start: theta, the parameters that move.
        num_tasks: B, of a pass.
        facts_per_pass: facts of each task that a step reads at a time, 0 for all (``encoding_losses``).
        reduction: of the inner loss, over facts.
    """

    def __init__(
        self,
        num_steps: int,
        plan: FastWeightsPlan,
        method: HypergradientMethod,
        start: list[Tensor],
        num_tasks: int,
        facts_per_pass: int = 0,
        reduction: Reduction = "mean",
    ):
        super().__init__("knowledge_encoding", method.lower_config(num_steps, start, num_tasks))
        self.num_steps = num_steps
        self.plan = plan
        self.method = method
        self.facts_per_pass = facts_per_pass
        self.reduction: Reduction = reduction
        self.losses: list[Tensor] = []
        """L_CLM(theta_k; K) of the current inner loop, one [B] per step, detached."""

    def start(self) -> FastWeights:
        self.reasoning.draw_tasks()
        self.losses = []
        return self.plan.start(self.reasoning.module.model, len(self.reasoning.tasks))

    def get_batch(self) -> TokenRows:
        return self.reasoning.knowledge.facts

    def moved(self, fast: FastWeights, facts: TokenRows, inner_step: int) -> tuple[FastWeights, Tensor]:
        second_order = self.method.differentiates(inner_step, self.num_steps)
        rates = self.reasoning.module.rates.at(inner_step)
        passes = encoding_losses(facts, self.facts_per_pass, self.reduction)
        moved, losses = fast.step(passes, rates, create_graph=second_order)
        self.losses.append(losses)
        outer_step, loss = self.reasoning.outer_step + 1, losses.sum()
        refuse_non_finite("inner level (knowledge encoding)", outer_step, inner_step, {"L_CLM": loss})
        return moved, loss


class ImplicitKnowledgeEncoding(ImplicitInnerProblem, KnowledgeEncoding):
    """The same steps on the proximal objective, whose end stands for its optimum (``hypergradients/implicit.py``)."""

    method: ImplicitMethod

    def start(self) -> OnePassWeights:
        self._before_last: OnePassWeights | None = None
        return super().start().cut()  # theta comes in through the optimum, and not through the path as well

    def moved(self, fast: OnePassWeights, facts: TokenRows, inner_step: int) -> tuple[OnePassWeights, Tensor]:
        self._before_last = fast
        return super().moved(fast, facts, inner_step)

    def leaves_of(self, fast: OnePassWeights) -> tuple[OnePassWeights, OnePassWeights, list[Tensor]]:
        self.optimizer = self.plan.optimizer.base  # Betty's SAMA goes by its name
        return fast.at_leaves()

    def objective(self, at_leaves: OnePassWeights, facts: TokenRows) -> Tensor:
        """Sum over tasks of J(phi; theta) = L_CLM(phi; K) + lambda / 2 |phi - theta|^2."""
        optimizer: Proximal = self.plan.optimizer
        theta = dict(self.reasoning.module.model.named_parameters())
        distance = sum((phi - gathered(theta[name])).square().sum() for name, phi in at_leaves.values.items())
        return encoding_loss(at_leaves, facts, reduction=self.reduction).sum() + optimizer.strength / 2 * distance

    def end_inner_loop(self) -> None:
        super().end_inner_loop()
        self.optimizer = self._before_last = None

    def get_opt_param_group_for_param(self, param: Tensor) -> dict[str, Any]:
        """What Betty's SAMA asks of AdamW: its options, and the last rate of the parameter's layer as ``lr``."""
        adamw, rate = self.optimizer, self.reasoning.module.rates.at(self.num_steps - 1)[self._name_of(param)]
        return {"betas": (adamw.beta1, adamw.beta2), "eps": adamw.epsilon, "lr": rate.detach()}

    def get_opt_state_for_param(self, param: Tensor) -> dict[str, Tensor]:
        """And its state after the last step, whose gradient follows from the state before: m' = b1 m + (1 - b1) g."""
        name, beta1 = self._name_of(param), self.optimizer.beta1
        _, mean, square = (tensor.detach() for tensor in self.fast.states[name])
        before = self._before_last.states[name]
        mean_before = before[1].detach() if before else torch.zeros_like(mean)
        gradient = (mean - beta1 * mean_before) / (1 - beta1)
        return {"exp_avg": mean, "exp_avg_sq": square, "last_grad": gradient}

    def _name_of(self, param: Tensor) -> str:
        return next(name for name, leaf in zip(self.fast.values, self.leaves, strict=True) if leaf is param)
