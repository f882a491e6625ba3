"""The single-level baselines: in-context fine-tuning (facts in the prompt) and no facts at all."""

from collections.abc import Sequence
from typing import Any

from betty.configs import Config
from torch import Tensor, nn
from transformers import PreTrainedModel

from problems.outer_level import OuterLevel
from reckoning_betty.config import TrainingConfig
from reckoning_betty.data.collate import ContextRows, TaskEncoder, TokenRows
from reckoning_betty.data.task import Task, TaskSource
from reckoning_betty.guards import refuse_non_finite
from reckoning_betty.inner.losses import answer_nll, knowledge_nll, nll_of
from reckoning_betty.inner.one_pass import logits_of


class InContext(OuterLevel):
    """Fine-tuning on ``facts question answer``, the paper's FT-ICR, or on ``question answer`` without facts.

    L_CE(y | K, x) + w * L_CLM(relevant facts | K, x, y): with w > 0 the model goes on after the answer and recalls the
    facts that it needed (FT-ICR multi-task), as a term of its own. Without facts there is nothing to recall, so w = 0.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        training: TrainingConfig,
        source: TaskSource,
        encoder: TaskEncoder,
        knowledge_weight: float,
        with_facts: bool,
        wrapped: nn.Module | None = None,
    ):
        super().__init__("in_context", module, Config(), training, 0.0, source, encoder)
        self.knowledge_weight = knowledge_weight if with_facts else 0.0
        self.with_facts = with_facts
        self.wrapped = wrapped
        """FSDP2's twin of the module, on the same parameters, whose hooks bring them their gradients."""

    def get_batch(self) -> ContextRows:
        return self.draw_tasks()

    def encode_tasks(self, tasks: Sequence[Task]) -> ContextRows:
        if self.with_facts:
            return self.encoder.in_context(tasks, recall=self.knowledge_weight > 0)
        return self.encoder.without_facts(tasks, recall=False)

    def training_step(self, batch: ContextRows) -> Tensor:
        rows: TokenRows = batch.answers
        nll = nll_of(self, rows)
        answer = answer_nll(nll, rows.scored, rows.rows).mean()
        loss, self.losses = answer, {"answer_loss": answer.detach()}
        if self.knowledge_weight > 0:
            recall = knowledge_nll(nll, batch.recalled, rows.rows).mean()
            loss = answer + self.knowledge_weight * recall
            self.losses["knowledge_loss"] = recall.detach()
        refuse_non_finite("in-context baseline", self.outer_step + 1, None, {**self.losses, "loss": loss})
        return loss

    def logits(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """The model's [B, R, T, V] for token ids [B, R, T]; with ``positions``, packed ones (``data/packing.py``)."""
        flat, places = tokens.flatten(0, 1), None if positions is None else positions.flatten(0, 1)
        if self.wrapped is None:
            logits = logits_of(self.module, flat, places)
        else:
            options = {} if places is None else {"position_ids": places}
            logits = self.wrapped(input_ids=flat, use_cache=False, **options).logits
        return logits.unflatten(0, tokens.shape[:2])

    def add_gradient(self, loss: Tensor, params: list, paths: list, **options: Any) -> None:
        if self.wrapped is None:
            super().add_gradient(loss, params, paths, **options)
        else:
            loss.backward()  # Betty would ask for the gradient of the shards, which are no part of the graph
