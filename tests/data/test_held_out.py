import pytest

from reckoning_betty.data.held_out import fixed_hash, home_of, set_aside
from reckoning_betty.errors import UserError

HASHES = [fixed_hash(str(number)) for number in range(100)]


def test_parts_are_disjoint_and_of_their_size_whatever_the_order_and_the_repetitions():
    parts = set_aside([*reversed(HASHES), *HASHES], {"test": 0.1, "validation": 0.2}, "a", "stories")
    assert {split: len(part) for split, part in parts.items()} == {"test": 10, "validation": 20}
    assert not parts["test"] & parts["validation"]
    assert parts["test"] | parts["validation"] < set(HASHES)
    assert parts == set_aside(HASHES, {"test": 0.1, "validation": 0.2}, "b", "stories")
    assert parts["test"] == set_aside(HASHES, {"test": 0.1}, "a", "stories")["test"]


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_each_part_has_one_and_one_is_left(fraction):
    parts = set_aside(HASHES[:3], {"test": fraction, "validation": fraction}, "a", "stories")
    assert [len(part) for part in parts.values()] == [1, 1]


def test_too_few():
    with pytest.raises(
        UserError, match=r"^f has too few training stories \(2\): test and validation take one each, so"
    ):
        set_aside(HASHES[:2] * 5, {"test": 0.1, "validation": 0.1}, "f", "stories")


def test_homes_are_the_same_in_every_process():
    homes = [home_of(str(number)) for number in range(2000)]
    assert [homes.count(split) / 2000 for split in ("train", "validation", "test")] == pytest.approx(
        [0.8, 0.1, 0.1], abs=0.02
    )
    assert [home_of(word) for word in ("c", "d", "e", "f")] == ["train", "train", "test", "train"]
