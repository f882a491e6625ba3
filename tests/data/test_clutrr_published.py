"""Reading the published CLUTRR files: every fact, question and answer of them."""

from collections import Counter
from pathlib import Path

import pytest
from clutrr_files import QUESTION, check_symbolic

from reckoning_betty.data.clutrr import read_clutrr, read_clutrr_tests, words
from reckoning_betty.errors import UserError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def published(name):
    path = SHARED / "data" / name
    if not path.is_dir():
        pytest.skip(f"the published data is not at {path}")
    return path


PUBLISHED = {
    "clutrr/data_089907f8": (
        10094,
        {2: 38, 3: 105, 4: 190, 5: 174, 6: 107, 7: 144, 8: 150, 9: 119, 10: 119},
    ),
    "clutrr/data_06b8f2a1": (10154, {2: 38, 3: 101 + 107 + 101 + 100}),
    "clutrr_bench/data_ab2918c7": (2685, {3: 820, 4: 1028, 6: 1081}),
}


TOLD_TWICE = {"clutrr/data_089907f8": 11, "clutrr_bench/data_ab2918c7": 14}


@pytest.mark.parametrize("name", TOLD_TWICE)
def test_published_facts(name):
    splits = read_clutrr(published(name), questions_per_task=3)
    train, test = PUBLISHED[name]
    assert len(splits.train.tasks) + len(splits.validation) == train
    assert 0.04 * train < len(splits.validation) < 0.06 * train
    assert Counter(task.questions[0].hops for task in splits.test) == test
    every = [*splits.train.tasks, *splits.validation, *splits.test]
    # In these few a fact is given twice, so that the stretch that a conclusion rests on has no one place.
    assert sum(len(set(task.facts)) < len(task.facts) for task in every) == TOLD_TWICE[name]
    for task in every:
        check_symbolic(task)
        assert task.questions[0].relevant == tuple(range(len(task.facts)))
    assert {len(t.questions) for t in splits.test if t.questions[0].hops > 4} <= {2, 3}
    held_out = {(*sorted(task.facts), task.questions[0].text) for task in splits.validation}
    assert not held_out & {(*sorted(task.facts), task.questions[0].text) for task in splits.train.tasks}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sentences(name):
    splits = read_clutrr(published(name), form="sentences")
    train, test = PUBLISHED[name]
    assert len(splits.train.tasks) + len(splits.validation) == train
    assert Counter(task.questions[0].hops for task in splits.test) == test
    vocabulary = set(splits.vocabulary)
    some_irrelevant = 0
    for task in [*splits.train.tasks, *splits.validation, *splits.test]:
        question = task.questions[0]
        text = " ".join(task.facts)
        assert all(name in text for name in QUESTION.fullmatch(question.text).groups())
        assert "[" not in text + question.text
        assert set(words(text)) | set(words(question.text)) <= vocabulary
        assert question.relevant
        some_irrelevant += len(question.relevant) < len(task.facts)
    if name.endswith("06b8f2a1"):
        assert some_irrelevant > 0.98 * 10154
    else:
        assert some_irrelevant == 0


def test_published_distractors_have_no_symbolic_form():
    folder = published("clutrr/data_06b8f2a1")
    with pytest.raises(UserError, match=r"2\.2_test\.csv, line 2, column edge_types: 2 .* form=sentences"):
        read_clutrr_tests(folder / "2.2_test.csv")
    assert len(read_clutrr_tests(folder / "1.3_test.csv")) == 101
