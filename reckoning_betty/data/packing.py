"""Several short rows in one: the same losses from fewer tokens, because less of what is read is padding.

Letters: B tasks, R rows, T tokens; packed, P longer rows of L tokens. Every row keeps positions of its own, from 0, by
which transformers lets its tokens see each other alone. Which models that holds for, ``models/causal_lm.py`` finds out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

MOST_ROWS = 4
"""Longest rows that a packed one has room for: attention takes L^2."""

LEAST_SAVED = 0.1
"""Share of the tokens below which rows stay as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Where the tokens of rows [B, R, T] stand in packed rows [B, P, L]."""

    source: Tensor
    """Long [B, P, L]: the place among a task's R * T tokens that each comes from; 0 for padding."""
    positions: Tensor
    """Long [B, P, L]: each token's place in its own row; 0 for padding, which so is a row of its own."""
    place: Tensor
    """Long [B, R, T]: where each token went among P * L; 0 for padding."""

    def packed(self, values: Tensor) -> Tensor:
        """[B, R, T] to [B, P, L]."""
        return _taken(values, self.source)

    def unpacked(self, values: Tensor) -> Tensor:
        """[B, P, L] to [B, R, T], with a value of some token where there is padding."""
        return _taken(values, self.place)

    def to(self, device: torch.device | str) -> "Packing":
        """The same on a device."""
        return Packing(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def pack(tasks: Sequence[Sequence[int]], shape: tuple[int, int], most: int | None) -> Packing | None:
    """Rows into as few tokens as first fit, the longest first, finds room for; None where that saves too little.

    Args:
        tasks: for each task the lengths of its rows.
        shape: R and T.
        most: the most tokens that the model can read in a row.
    """
    rows, length = shape
    longest = MOST_ROWS * length if most is None else min(MOST_ROWS * length, most)
    best, fewest = None, rows * length * (1 - LEAST_SAVED)
    fullest = max(map(sum, tasks))
    for number in range(1, rows):
        for room in range(max(length, -(-fullest // number)), longest + 1):
            if number * room >= fewest:
                break
            bins = [_first_fit(lengths, room) for lengths in tasks]
            if max(map(len, bins)) <= number:
                best, fewest = (bins, number, room), number * room
                break
    return None if best is None else _packing(tasks, shape, *best)


def _first_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Rows by index for each packed row."""
    bins: list[list[int]] = []
    free: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        for index, space in enumerate(free):
            if lengths[row] <= space:
                bins[index].append(row)
                free[index] -= lengths[row]
                break
        else:
            bins.append([row])
            free.append(room - lengths[row])
    return bins


def _packing(
    tasks: Sequence[Sequence[int]], shape: tuple[int, int], bins: Sequence[list[list[int]]], number: int, room: int
) -> Packing:
    rows, length = shape
    source, positions = torch.zeros(2, len(tasks), number * room, dtype=torch.long)
    place = torch.zeros(len(tasks), rows * length, dtype=torch.long)
    for task, lengths in enumerate(tasks):
        for index, packed in enumerate(bins[task]):
            start = index * room
            for row in packed:
                there, here = slice(start, start + lengths[row]), slice(row * length, row * length + lengths[row])
                source[task, there] = torch.arange(here.start, here.stop)
                positions[task, there] = torch.arange(lengths[row])
                place[task, here] = torch.arange(there.start, there.stop)
                start = there.stop
    return Packing(
        source=source.view(-1, number, room), positions=positions.view(-1, number, room), place=place.view(-1, *shape)
    )


def _taken(values: Tensor, index: Tensor) -> Tensor:
    return values.flatten(1).gather(1, index.flatten(1)).view(index.shape)
