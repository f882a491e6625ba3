"""The outer level: answer questions with the adapted weights, the facts no longer in the input."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from problems.outer_level import OuterLevel
from reckoning_betty.config import KnowledgeTerm, TrainingConfig
from reckoning_betty.data.collate import ContextRows, Knowledge, TaskEncoder, TokenRows
from reckoning_betty.data.task import Task, TaskSource
from reckoning_betty.guards import refuse_non_finite
from reckoning_betty.hypergradients.method import HypergradientMethod
from reckoning_betty.inner.fast_weights import FastWeights
from reckoning_betty.inner.losses import answer_nll, knowledge_nll, nll_of, token_nll
from reckoning_betty.inner.rates import InnerRates

JOINT_PADDING = 1.25
"""Tokens that one pass over questions and facts may take, for each token that two passes take."""


class MetaParameters(nn.Module):
    """What the outer level trains: the starting weights theta and the inner rates alpha."""

    def __init__(self, model: PreTrainedModel, rates: InnerRates):
        super().__init__()
        self.model = model
        self.rates = rates


class Reasoning(OuterLevel):
    """min over theta, alpha of L_CE(y | x; theta_N) + w * L_CLM(relevant facts; theta_N).

    With the term ``because`` the second one is L_CLM(relevant facts | x, y; theta_N): they stand behind each answer;
    ``both`` adds the two.

    DESIGN.md section 1; paper, equations 3 to 5, with w = 0 for the single-task objective. The two terms are each a
    mean over the tasks: L_CE sums over the answer's tokens and averages over the task's questions, L_CLM averages over
    tokens, then facts (behind answers, then questions). (The authors' code averages over the tokens of one sequence
    ``answer because facts`` instead.)

    Reads its sibling ``knowledge_encoding`` for theta_N. How the gradient comes back through its updates is up to
    ``method``.
    """

    def __init__(
        self,
        module: MetaParameters,
        training: TrainingConfig,
        rate_learning_rate: float,
        source: TaskSource,
        encoder: TaskEncoder,
        knowledge_weight: float,
        method: HypergradientMethod,
        term: KnowledgeTerm = "facts",
    ):
        config = method.upper_config()
        super().__init__("reasoning", module, config, training, rate_learning_rate, source, encoder)
        self.knowledge_weight = knowledge_weight
        self.knowledge: Knowledge | None = None
        self.asked: ContextRows | None = None
        self.recalls_rows = knowledge_weight > 0 and term != "because"
        self.recalls_behind_answers = knowledge_weight > 0 and term != "facts"

    def draw_tasks(self) -> None:
        self.knowledge, self.asked = super().draw_tasks()

    def encode_tasks(self, tasks: Sequence[Task]) -> tuple[Knowledge, ContextRows]:
        return self.encoder.knowledge(tasks), self.encoder.without_facts(tasks, self.recalls_behind_answers)

    def get_batch(self) -> ContextRows:
        return self.asked

    def training_step(self, asked: ContextRows) -> Tensor:
        fast, questions = self.knowledge_encoding.fast, asked.answers
        recall = []
        if self.recalls_rows:
            facts = self.knowledge.facts
            nll, recalled = nll_of_both(fast, questions, facts)
            recall.append(knowledge_nll(recalled, facts.scored, self.knowledge.relevant).mean())
        else:
            nll = nll_of(fast, questions)
        if self.recalls_behind_answers:
            recall.append(knowledge_nll(nll, asked.recalled, questions.rows).mean())
        answer = answer_nll(nll, questions.scored, questions.rows).mean()
        loss, self.losses = answer, {"answer_loss": answer.detach()}
        if recall:
            loss = answer + self.knowledge_weight * sum(recall)
            self.losses["knowledge_loss"] = sum(recall).detach()
        refuse_non_finite("outer level (reasoning)", self.outer_step + 1, None, {**self.losses, "loss": loss})
        return loss

    def end_pass(self) -> None:
        self.knowledge_encoding.end_inner_loop()  # frees its graph before the next one starts


def nll_of_both(fast: FastWeights, first: TokenRows, second: TokenRows) -> tuple[Tensor, Tensor]:
    """``nll_of`` two sets of rows, in one pass of the model where little padding is needed for it.

    A pass costs as many operations however few its tokens are, so one is cheaper than two for small models.
    """
    lengths = first.inputs.shape[2], second.inputs.shape[2]
    apart = first.num_tokens + second.num_tokens
    together = (first.inputs.shape[1] + second.inputs.shape[1]) * max(lengths)
    if together > JOINT_PADDING * apart:
        return nll_of(fast, first), nll_of(fast, second)
    rows = [F.pad(part.inputs, (0, max(lengths) - part.inputs.shape[2])) for part in (first, second)]
    a, b = fast.logits(torch.cat(rows, dim=1)).split([part.inputs.shape[1] for part in (first, second)], dim=1)
    return token_nll(a[:, :, : lengths[0]], first.targets), token_nll(b[:, :, : lengths[1]], second.targets)
