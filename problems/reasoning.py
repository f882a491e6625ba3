"""The outer level: answer questions with the adapted weights, the facts no longer in the input."""

from betty.configs import Config
from torch import Tensor, nn
from transformers import PreTrainedModel

from problems.outer_level import OuterLevel
from reckoning_betty.config import TrainingConfig
from reckoning_betty.data.collate import Knowledge, TaskEncoder, TokenRows
from reckoning_betty.data.task import TaskSource
from reckoning_betty.guards import refuse_non_finite
from reckoning_betty.inner.losses import answer_nll, knowledge_nll
from reckoning_betty.inner.rates import InnerRates


class MetaParameters(nn.Module):
    """What the outer level trains: the starting weights theta and the inner rates alpha."""

    def __init__(self, model: PreTrainedModel, rates: InnerRates):
        super().__init__()
        self.model = model
        self.rates = rates


class Reasoning(OuterLevel):
    """min over theta, alpha of L_CE(y | x; theta_N) + w * L_CLM(relevant facts; theta_N).

    DESIGN.md section 1; paper, equations 3 to 5, with w = 0 for the single-task objective. The two terms are each a
    mean over the tasks: L_CE sums over the answer's tokens and averages over the task's questions, L_CLM averages over
    tokens, then facts. (The authors' code averages over the tokens of one sequence ``answer because facts`` instead.)

    Reads its sibling ``knowledge_encoding`` for theta_N. The gradient runs through its updates
    (``Config(first_order=False)``), as far as that level builds their graph.
    """

    def __init__(
        self,
        module: MetaParameters,
        training: TrainingConfig,
        rate_learning_rate: float,
        source: TaskSource,
        encoder: TaskEncoder,
        knowledge_weight: float,
    ):
        config = Config(first_order=False, retain_graph=False)
        super().__init__("reasoning", module, config, training, rate_learning_rate, source, encoder)
        self.knowledge_weight = knowledge_weight
        self.knowledge: Knowledge | None = None
        self.questions: TokenRows | None = None

    def draw_tasks(self, step: int) -> None:
        super().draw_tasks(step)
        self.knowledge = self.encoder.knowledge(self.tasks)
        self.questions = self.encoder.questions(self.tasks)

    def get_batch(self) -> TokenRows:
        return self.questions

    def training_step(self, questions: TokenRows) -> Tensor:
        fast = self.knowledge_encoding.fast
        logits = fast.logits(questions.inputs)
        answer = answer_nll(logits, questions.tokens, questions.scored, questions.rows).mean()
        loss, self.losses = answer, {"answer_loss": answer.detach()}
        if self.knowledge_weight > 0:
            facts = self.knowledge.facts
            recall = knowledge_nll(
                fast.logits(facts.inputs), facts.tokens, facts.scored, self.knowledge.relevant
            ).mean()
            loss = answer + self.knowledge_weight * recall
            self.losses["knowledge_loss"] = recall.detach()
        refuse_non_finite("outer level (reasoning)", self.count, None, {**self.losses, "loss": loss})
        return loss

    def optimizer_step(self, *args, **kwargs) -> None:
        super().optimizer_step(*args, **kwargs)
        self.knowledge_encoding.fast = None  # frees the graph of the inner loop before the next one starts
