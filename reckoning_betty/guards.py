"""Stops at the first number that is not finite."""

from collections.abc import Mapping

import torch
from torch import Tensor


class NonFiniteError(Exception):
    """A loss or gradient is NaN or infinite; the message names level, step and tensor."""


def refuse_non_finite(
    level: str, outer_step: int, inner_step: int | None, tensors: Mapping[str, Tensor], what: str = "loss"
) -> None:
    """Raise NonFiniteError for the first tensor that is not finite.

    Args:
        level: which level of the two, as the user reads it.
        outer_step: number of the outer step, 1-based.
        inner_step: number of inner steps done in this outer step, or None at the outer level.
        tensors: by name.
        what: ``loss`` or ``hypergradient``.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            place = f"outer step {outer_step}" + ("" if inner_step is None else f", inner step {inner_step}")
            raise NonFiniteError(f"{level}, {place}: the {what} '{name}' is not finite")
