"""Which lengths training draws from: short ones first (Bengio et al., ICML 2009)."""

from collections.abc import Sequence

from reckoning_betty.errors import UserError

LATE_STEP = 10**6
"""An outer step by which every curriculum is over."""


def refuse_impossible_curriculum(curriculum_tasks: int) -> None:
    """
    Raises:
        UserError: it is negative.
    """
    if curriculum_tasks < 0:
        raise UserError(f"curriculum_tasks is {curriculum_tasks}, but it must be 0 or more.")


def lengths_after(tasks: int, lengths: Sequence[int], curriculum_tasks: int) -> Sequence[int]:
    """The shortest of ``lengths`` at first, and one more at a time at equal intervals, until all are there.

    Args:
        tasks: drawn before.
        lengths: hops or depths; one that stands there twice is drawn twice as often once it is there.
        curriculum_tasks: tasks after which all are drawn; 0 for all from the start.
    """
    different = sorted(set(lengths))
    if tasks >= curriculum_tasks or len(different) == 1:
        return lengths
    longest = different[tasks * (len(different) - 1) // curriculum_tasks]
    return [length for length in lengths if length <= longest]
