"""Tasks robbed of what their answer follows from, for the sanity baselines: whoever still answers them, guesses well.

The paper's Random-Facts and No-Question (section 4.1); its No-Facts is a method of its own, which reads no facts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reckoning_betty.config import Method
from reckoning_betty.data.task import Task, TaskSource
from reckoning_betty.errors import UserError

ELSEWHERE = 10**6
"""Outer steps between a training task and the one whose facts it is given."""


def without_question(task: Task) -> Task:
    """The facts and the answers, but not what was asked."""
    return replace(task, questions=tuple(replace(question, text="") for question in task.questions))


def with_facts_of(task: Task, other: Task) -> Task:
    """The questions and answers of ``task`` after the facts of ``other``, none of which is relevant."""
    questions = tuple(replace(question, relevant=()) for question in task.questions)
    return replace(other, questions=questions, identifier=task.identifier)


def as_seen_by(method: Method, tasks: Sequence[Task]) -> list[Task]:
    """The tasks of a validation or test set as ``method`` gets them; those of a half have the other half's facts.

    Raises:
        UserError: a single task, for ``random_facts``.
    """
    if method == "no_question":
        return [without_question(task) for task in tasks]
    if method == "random_facts":
        if len(tasks) < 2:
            raise UserError("random_facts gives each task the facts of another one: take 2 tasks or more.")
        half = len(tasks) // 2
        return [with_facts_of(task, other) for task, other in zip(tasks, [*tasks[half:], *tasks[:half]], strict=True)]
    return list(tasks)


@dataclass(frozen=True, slots=True)
class SeenBy:
    """A source whose tasks are as ``method`` gets them in training."""

    method: Method
    source: TaskSource

    def draw(self, step: int, count: int) -> list[Task]:
        tasks = self.source.draw(step, count)
        if self.method == "random_facts":
            others = self.source.draw(step + ELSEWHERE, count)
            return [with_facts_of(task, other) for task, other in zip(tasks, others, strict=True)]
        return as_seen_by(self.method, tasks)
