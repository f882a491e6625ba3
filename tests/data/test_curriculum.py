"""Short stories and proofs first, then all lengths."""

from collections import Counter

import pytest

from reckoning_betty.data.clutrr import ClutrrGenerator
from reckoning_betty.data.curriculum import lengths_after
from reckoning_betty.data.proofwriter import ProofWriterGenerator
from reckoning_betty.errors import UserError


def test_lengths_come_one_at_a_time():
    found = [max(lengths_after(step, (6, 2, 4, 4), 10)) for step in range(12)]
    assert found == [2] * 5 + [4] * 5 + [6] * 2
    assert lengths_after(7, (6, 2, 4, 4), 10) == [2, 4, 4]
    assert lengths_after(10, (6, 2, 4, 4), 10) == (6, 2, 4, 4)


def test_without_one_all_are_there():
    assert lengths_after(0, (2, 3), 0) == (2, 3)
    assert lengths_after(0, (3, 3), 100) == (3, 3)


@pytest.mark.parametrize(
    ("make", "longest"),
    [
        (lambda tasks: ClutrrGenerator(hops=(2, 3, 4), curriculum_tasks=tasks), {0: 2, 4: 3, 8: 4}),
        (lambda tasks: ProofWriterGenerator(depths=(1, 2, 3), curriculum_tasks=tasks), {0: 1, 4: 2, 8: 3}),
    ],
)
def test_generators_follow(make, longest):
    source, unordered = make(8 * 30), make(0)
    for step, length in longest.items():
        expected = set(range(longest[0], length + 1))
        assert {task.questions[0].hops for task in source.draw(step, 30)} == expected
    assert source.draw(8, 30) == unordered.draw(8, 30)  # what is drawn does not depend on how it began
    assert len({task.questions[0].hops for task in unordered.draw(0, 30)}) == 3


def test_distractors_grow_with_the_proofs():
    source = ProofWriterGenerator(
        depths=(2,), distractors="all,none,2,all", test_distractors="3", sentences=10, curriculum_tasks=8 * 30
    )

    def others(tasks):
        return Counter(len(task.facts) - len(task.questions[0].relevant) for task in tasks)

    assert set(others(source.draw(0, 30))) == {0}
    assert set(others(source.draw(4, 30))) == {0, 2}
    last = others(source.draw(8, 300))
    assert max(last) > 3
    assert sum(number for count, number in last.items() if count > 2) > 100  # given twice, drawn twice as often
    for split in ("validation", "test"):
        assert set(others(source.theories(split, 2, 12))) == {3}


@pytest.mark.parametrize("make", [ClutrrGenerator, ProofWriterGenerator])
def test_a_negative_number_is_refused(make):
    with pytest.raises(UserError, match="curriculum_tasks is -1"):
        make(curriculum_tasks=-1)
