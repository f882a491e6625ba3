"""Which hops the mean of a comparison is over."""

from types import SimpleNamespace

import pytest

from reckoning_betty.comparison.report import _trained_hops
from reckoning_betty.data.task import Question, Task


def tasks(*hops):
    return [Task(facts=("a",), questions=(Question(text="a", answer="b", hops=n, relevant=(0,)),)) for n in hops]


@pytest.mark.parametrize(
    ("validation", "test", "expected"),
    [
        ((2, 3, 2), (2, 3, 4, 10), ["2", "3"]),
        ((1, 2, 7), (2, 1, 5), ["1", "2"]),  # real data: a depth that no test row has
        ((1, 2), (4, 3), ["3", "4"]),
    ],
)
def test_hops_of_training_that_are_tested(validation, test, expected):
    splits = SimpleNamespace(validation=tasks(*validation), test=tasks(*test))
    assert _trained_hops(SimpleNamespace(seeds=[0], splits=lambda seed: splits)) == expected
