"""How large an outer step's tokens are: found in the problem's tasks, or given. Letters as in ``data/collate.py``."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from reckoning_betty.data.buckets import Bucketed
from reckoning_betty.data.collate import ContextRows, Knowledge, TaskEncoder, TokenRows
from reckoning_betty.data.task import Task, TaskSource

LOOK_AHEAD = 20
"""Outer steps whose tasks are looked at for the largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """Rows of every task, and tokens of every row, padding included. The last token of a row is not read."""

    facts: int
    fact_tokens: int
    questions: int = 1
    question_tokens: int = 9
    """Prompt, answer and the end-of-sequence token."""

    def __str__(self) -> str:
        return (
            f"{self.facts} facts of {self.fact_tokens} tokens and {self.questions} questions of "
            f"{self.question_tokens} (answers included) per task"
        )


def largest_batch(
    source: TaskSource, encoder: TaskEncoder, num_tasks: int, window: int, seed: int, recall: bool
) -> BatchShape:
    """The largest of the first outer steps' batches, as training draws them.

    Args:
        source: the training tasks.
        encoder: the model's.
        num_tasks: of an outer step.
        window: ``TrainingConfig.bucket_steps``.
        seed: the run's.
        recall: whether the relevant facts stand behind the answers.
    """
    source = Bucketed(source, window, seed) if window > 1 else source
    drawn = [source.draw(step, num_tasks) for step in range(LOOK_AHEAD)]
    asked = [encoder.without_facts(tasks, recall).answers.tokens.shape for tasks in drawn]
    rows = [(encoder.knowledge(tasks).facts.tokens.shape, shape) for tasks, shape in zip(drawn, asked, strict=True)]
    (_, facts, fact_tokens), (_, questions, question_tokens) = max(
        rows, key=lambda pair: pair[0].numel() + pair[1].numel()
    )
    return BatchShape(facts=facts, fact_tokens=fact_tokens, questions=questions, question_tokens=question_tokens)


@dataclass(frozen=True, slots=True)
class RandomTasks:
    """A source of tasks that stand for nothing but their number."""

    def draw(self, step: int, count: int) -> list[Task]:
        return [Task(facts=(), questions=())] * count


@dataclass(frozen=True, slots=True)
class RandomTokens:
    """A ``TaskEncoder`` that gives every task the same number of random tokens below ``vocabulary``."""

    shape: BatchShape
    vocabulary: int

    def knowledge(self, tasks: Sequence[Task]) -> Knowledge:
        rows = self._rows(len(tasks), self.shape.facts, self.shape.fact_tokens)
        return Knowledge(facts=rows, relevant=rows.rows)

    def without_facts(self, tasks: Sequence[Task], recall: bool) -> ContextRows:
        rows = self._rows(len(tasks), self.shape.questions, self.shape.question_tokens)
        return ContextRows(answers=rows, recalled=torch.full_like(rows.scored, recall))

    def _rows(self, *size: int) -> TokenRows:
        generator = torch.Generator().manual_seed(sum(size))
        return TokenRows(
            tokens=torch.randint(self.vocabulary, size, generator=generator),
            scored=torch.ones(size, dtype=torch.bool),
            rows=torch.ones(size[:2], dtype=torch.bool),
        )
