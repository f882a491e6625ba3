"""Which validation's weights a run keeps."""

from types import SimpleNamespace

import pytest
import torch

from reckoning_betty.data.task import Question, Task
from reckoning_betty.evaluation import Answers
from reckoning_betty.training.engine import TrainingEngine

FACTS = ("Eve is red .", "Dave is cold .")
TASKS = [Task(facts=FACTS, questions=(Question(text="x ?", answer="yes", hops=1, relevant=(0,)),))] * 4


def best_of(*validations, max_recall_tokens):
    """The steps at which weights are kept, of validations that have so many answers and recalls of four right."""
    kept, scores = [], []
    given = iter(validations)

    def answer(tasks):
        answered, recalled, nll = next(given)
        return Answers(
            texts=["yes"] * answered + ["no"] * (4 - answered),
            nll=torch.full((4,), nll),
            inner_losses=torch.empty(0, 4),
            recalled=[FACTS[0]] * recalled + [FACTS[1]] * (4 - recalled),
        )

    job = SimpleNamespace(
        method="reckoning",
        answerer=SimpleNamespace(answer=answer, max_recall_tokens=max_recall_tokens),
        validation=TASKS,
        log=SimpleNamespace(write=lambda *entry: None),
        seconds=0.0,
        save_best=lambda note: kept.append(note["outer_step"]),
    )
    engine = SimpleNamespace(job=job, outer=SimpleNamespace(count=0), best=None, _bar=None)
    for step in range(len(validations)):
        engine.outer.count = step
        scores.append(TrainingEngine.validation(engine)["score"])
    return kept, scores


def test_the_best_answers_are_kept_and_of_equal_ones_those_of_the_least_loss():
    assert best_of((2, 4, 0.5), (3, 0, 0.7), (3, 4, 0.6), (3, 4, 0.6), (2, 0, 0.1), max_recall_tokens=0) == (
        [0, 1, 2],
        [0.5, 0.75, 0.75, 0.75, 0.5],
    )


def test_recall_counts_as_much_where_it_is_asked_for():
    kept, scores = best_of((3, 0, 0.5), (2, 2, 0.5), (2, 1, 0.1), (2, 2, 0.4), (3, 3, 0.9), max_recall_tokens=8)
    assert kept == [0, 1, 3, 4]
    assert scores == pytest.approx([0.375, 0.5, 0.375, 0.5, 0.75])
