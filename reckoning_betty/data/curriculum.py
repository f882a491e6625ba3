"""Which lengths training draws from at an outer step: short ones first (Bengio et al., ICML 2009)."""

from collections.abc import Sequence

from reckoning_betty.errors import UserError


def refuse_impossible_curriculum(curriculum_steps: int) -> None:
    """
    Raises:
        UserError: it is negative.
    """
    if curriculum_steps < 0:
        raise UserError(f"curriculum_steps is {curriculum_steps}, but it must be 0 or more.")


def lengths_at(step: int, lengths: Sequence[int], curriculum_steps: int) -> Sequence[int]:
    """The shortest of ``lengths`` at step 0, and one more at a time at equal intervals, until all are there.

    Args:
        step: outer step, from 0.
        lengths: hops or depths; one that stands there twice is drawn twice as often once it is there.
        curriculum_steps: the step from which all are drawn; 0 for all from the start.
    """
    different = sorted(set(lengths))
    if step >= curriculum_steps or len(different) == 1:
        return lengths
    longest = different[step * (len(different) - 1) // curriculum_steps]
    return [length for length in lengths if length <= longest]
