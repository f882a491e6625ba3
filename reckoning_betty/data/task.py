"""What every problem hands to training and evaluation: tasks made of facts and questions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question x with its answer y; the facts that it needs are named by position."""

    text: str
    answer: str
    hops: int
    """Number of facts to be joined to reach the answer."""
    relevant: tuple[int, ...]
    """Positions in ``Task.facts`` of the facts that support the answer (the others are distractors)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A knowledge set K and the questions about it. ``questions[0]`` is the one that evaluation scores."""

    facts: tuple[str, ...]
    questions: tuple[Question, ...]
    identifier: str = ""
    """Where the task comes from: the row's id, or the seed that made it."""


class TaskSource(Protocol):
    """An endless supply of training tasks, a pure function of the step, so that a resumed run sees the same ones."""

    def draw(self, step: int, count: int) -> list[Task]:
        """The ``count`` tasks of outer step ``step`` (0-based)."""


@dataclass(slots=True, kw_only=True)
class StoredTasks:
    """A finite list of tasks, visited in epochs; each epoch has its own order, given by ``seed``."""

    tasks: Sequence[Task]
    seed: int
    _order: tuple[int, list[int]] = field(default=(-1, []), init=False, repr=False)

    def draw(self, step: int, count: int) -> list[Task]:
        return [self._at(position) for position in range(step * count, (step + 1) * count)]

    def _at(self, position: int) -> Task:
        epoch, place = divmod(position, len(self.tasks))
        if self._order[0] != epoch:
            order = list(range(len(self.tasks)))
            random.Random(f"{self.seed} epoch {epoch}").shuffle(order)
            self._order = (epoch, order)
        return self.tasks[self._order[1][place]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The three parts of a corpus. Validation chooses (early stopping, best checkpoint); test only reports."""

    train: TaskSource
    validation: list[Task]
    test: list[Task]
    vocabulary: list[str]
    """Every word that facts, questions and answers can contain, for the word-level tokenizer."""
