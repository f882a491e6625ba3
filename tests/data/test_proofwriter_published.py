"""The published rows of ../shared: all are understood, and all their labels and depths are the prover's."""

import json
import random
from collections import Counter

import pytest

from reckoning_betty.data.proofwriter import read_proofwriter, read_proofwriter_tests
from reckoning_betty.data.proofwriter.parsing import parse, parse_fact, split_sentences
from reckoning_betty.data.proofwriter.prover import Prover
from reckoning_betty.data.proofwriter.rendering import GENERIC, render

LETTERS = {"A": "true", "B": "false", "C": "unknown"}


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data" / "proofwriter"


@pytest.fixture(scope="module")
def rows(folder):
    return {
        split: json.loads((folder / f"logic_llm_owa_d5_{split}.json").read_text()) for split in ("train", "dev")
    }  # fmt: skip


@pytest.mark.parametrize(("split", "count"), [("train", 3000), ("dev", 600)])
def test_every_label_and_depth(rows, split, count):
    """The number in a row's id tells the depth: 1 and 2 ask for depth 0, 3 and 4 for depth 1, and so on up to 12."""
    agreeing, forms = Counter(), Counter()
    for row in rows[split]:
        sentences = split_sentences(row["context"])
        theory = [parse(sentence) for sentence in sentences]
        prover = Prover(theory)
        verdict = prover.judge(parse_fact(row["question"].rpartition("? ")[2]))
        number = int(row["id"].rpartition("_Q")[2])
        assert prover.is_consistent
        assert verdict.label == LETTERS[row["answer"]], row["id"]
        if number <= 12:
            assert verdict.depth == (number - 1) // 2, row["id"]
        assert (verdict.label == "unknown") == (number > 12)
        agreeing[verdict.label] += 1
        for sentence, meaning in zip(sentences, theory, strict=True):
            told = sentence.replace(",", " ,").replace(".", " .")
            forms[
                told in {render(meaning, generic, form) for generic in GENERIC for form in ("if", "all", "plain")}
            ] += 1
    assert agreeing.total() == count
    assert set(forms) == {True}  # each is told as it stands, too


def drawn(splits):
    """All training tasks, each as at some visit."""
    return [splits.train.drawing.task(puzzle, 0, random.Random(0)) for puzzle in splits.train.order.tasks]


def test_no_theory_is_in_two_splits(folder):
    splits = read_proofwriter(folder, distractors="all")
    train, validation, test = (
        {frozenset(task.facts) for task in tasks} for tasks in (drawn(splits), splits.validation, splits.test)
    )
    assert len(train) > 1000
    assert not train & validation
    assert not (train | validation) & test


def test_as_training_data(folder):
    splits = read_proofwriter(folder)
    train = drawn(splits)
    assert (len(train), len(splits.validation), len(splits.test)) == (1936, 98, 410)
    for task in (*train[:200], *splits.validation, *splits.test):
        assert sorted(task.questions[0].relevant) == list(range(len(task.facts)))
        assert len(task.facts) >= 2
    assert splits.test == read_proofwriter_tests(folder)
    answers = Counter(task.questions[0].answer for task in splits.test)
    assert min(answers.values()) == answers["unknown"] == 70


def test_all_distractors(folder):
    """On average 14.3 facts and rules besides the relevant ones; the paper's 7 are of sets that are smaller, too."""
    tasks = read_proofwriter_tests(folder, distractors="all")
    others = [len(task.facts) - len(task.questions[0].relevant) for task in tasks]
    assert min(others) >= 3
    assert sum(others) / len(others) == pytest.approx(14.28, abs=0.01)


def test_depths_are_chosen(folder):
    tasks = read_proofwriter_tests(folder, depths=(1, 2))
    assert Counter(task.questions[0].hops for task in tasks) == {1: 84, 2: 100}
    everything = read_proofwriter_tests(folder, min_relevant=1)
    assert len(everything) > 410
    assert {task.questions[0].hops for task in everything} >= {0, 1, 2, 3, 4, 5}
