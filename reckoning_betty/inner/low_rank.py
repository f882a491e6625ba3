"""The dual form of an adapted matrix: the shared one and token factors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from reckoning_betty.inner.matrices import AdaptedMatrix, Origin, OuterProducts, Rows
from reckoning_betty.inner.precision import add_product, multiply
from reckoning_betty.inner.recompute import backward_pass, keeps_graph

WORTH_A_COPY = 2**18
"""Elements whose memory is freed at the price of a copy of the others."""


class LowRank(AdaptedMatrix):
    """The dual form: the shared M and token factors, in chains that the steps of an inner loop share.

    Args:
        num_steps: for how many steps to reserve memory; more are possible.
        segments: (chain, number of its rows) in the order of the steps; the last of a kind may be added to.
    """

    def __init__(
        self,
        origin: Origin,
        num_tasks: int,
        num_steps: int = 1,
        segments: tuple[tuple["Chain", int], ...] = (),
    ):
        super().__init__(origin, num_tasks)
        self.num_steps = num_steps
        self.segments = segments
        self.added: tuple[tuple[bool, int], ...] = ()
        """Whether it is one-hot, and n, of each outer product that the last step brought."""

    def product(self, x: Tensor) -> Tensor:
        rounded = self.origin.rounded
        y = self.origin.product(x)
        for chain, length in self.segments:
            left, right = chain.factors(length)
            left.subtract_combined(y, multiply(x, right.mT, rounded), rounded)
        return y

    def transposed_product(self, left: Rows) -> Tensor:
        rounded = self.origin.rounded
        x = self.origin.transposed_product(left)
        for chain, length in self.segments:
            factor, right = chain.factors(length)
            add_product(x, left.gram(factor, x.dtype, rounded), right, rounded, alpha=-1)
        return x

    def note(self, left: Rows, right: Tensor) -> None:
        self.origin.note(left, right)
        for chain, length in self.segments:
            chain.note(length, left, right, self.origin.rounded)

    def minus(self, outer_products: OuterProducts, num_passes: int = 1, kept: bool = True) -> "LowRank":
        new = LowRank(self.origin, self.num_tasks, self.num_steps, self.segments)
        new._append(outer_products, num_passes)
        return new

    def subtract(self, outer_products: OuterProducts, kept: bool = True) -> None:
        self._append(outer_products, 1)

    def _append(self, outer_products: OuterProducts, num_passes: int) -> None:
        segments, added = list(self.segments), list(self.added)
        for left, right in outer_products:
            place = self._last(segments, left.one_hot)
            if place is None or segments[place][0].length != segments[place][1]:  # another step went on from there
                segments.append((Chain(left.one_hot, self.num_steps * num_passes), 0))
                place = len(segments) - 1
            chain = segments[place][0]
            chain.append(left, right)
            segments[place] = (chain, chain.length)
            added.append((left.one_hot, right.shape[1]))
        self.segments, self.added = tuple(segments), tuple(added)

    def pass_on(self, earlier: AdaptedMatrix) -> list[Tensor | None]:
        segments = list(self.segments)
        found: list[Tensor | None] = []
        for one_hot, size in reversed(self.added):
            place = self._last(segments, one_hot)
            chain, end = segments[place]
            found = [*chain.cotangents(end - size, end), *found]
            segments[place] = (chain, end - size)
        return found

    @staticmethod
    def _last(segments: Sequence[tuple["Chain", int]], one_hot: bool) -> int | None:
        places = [place for place, (chain, _) in enumerate(segments) if chain.one_hot == one_hot]
        return places[-1] if places else None


class Chain:
    """Token factors of one kind, and their cotangents; a step uses the first ``length`` rows that it knows of.

    Args:
        times: how many times as many rows to reserve memory for as are appended first.
    """

    def __init__(self, one_hot: bool, times: int = 1):
        self.one_hot = one_hot
        self.times = times
        self.length = 0
        self._left: Tensor | None = None
        self._right: Tensor | None = None
        self._left_bar: Tensor | None = None
        self._right_bar: Tensor | None = None
        self._pass = -1

    def factors(self, length: int) -> tuple[Rows, Tensor]:
        if length > self.length:
            raise RuntimeError("A backward pass has freed these fast weights: call it with retain_graph=True.")
        return Rows(self._left[:, :length]), self._right[:, :length]

    def append(self, left: Rows, right: Tensor) -> None:
        start, self.length = self.length, self.length + right.shape[1]
        reserved = self.times * right.shape[1] if self._right is None else 2 * self._right.shape[1]
        self._left = _with_rows(self._left, left.values, start, max(reserved, self.length))
        self._right = _with_rows(self._right, right, start, max(reserved, self.length))

    def note(self, length: int, left: Rows, right: Tensor, rounded: torch.dtype | None = None) -> None:
        """With M_k-bar += left^T right, for all earlier factors: R-bar -= L M_k-bar and L-bar -= R M_k-bar^T."""
        if backward_pass() != self._pass:
            self._pass = backward_pass()
            self._right_bar = torch.zeros_like(self._right[:, : self.length])
            self._left_bar = None if self.one_hot else torch.zeros_like(self._left[:, : self.length])
        factor, factor_right = self.factors(length)
        gram = factor.gram(left, right.dtype, rounded)
        add_product(self._right_bar[:, :length], gram, right, rounded, alpha=-1)
        if self._left_bar is not None:
            left.subtract_combined(self._left_bar[:, :length], multiply(factor_right, right.mT, rounded), rounded)

    def cotangents(self, start: int, end: int) -> tuple[Tensor | None, Tensor | None]:
        """L-bar and R-bar of rows ``start`` to ``end``, whose memory is freed unless the pass keeps its graph."""
        if backward_pass() != self._pass:
            left = right = None
        else:
            left, right = (
                None if bar is None else bar[:, start:end].clone() for bar in (self._left_bar, self._right_bar)
            )
            self._left_bar, self._right_bar = (_first_rows(bar, start) for bar in (self._left_bar, self._right_bar))
            self._pass = self._pass if start else -1
        if not keeps_graph():
            self.length = start
            self._left, self._right = _first_rows(self._left, start), _first_rows(self._right, start)
        return left, right


def _first_rows(rows: Tensor | None, number: int) -> Tensor | None:
    """``rows`` [B, n, width] without the memory of those behind the first ``number``, where that is worth a copy."""
    if rows is None or number == 0:
        return None
    kept = rows[:, :number]
    return kept.clone() if rows.numel() - kept.numel() > WORTH_A_COPY else kept


def _with_rows(rows: Tensor | None, new: Tensor, start: int, capacity: int) -> Tensor:
    """``new`` [B, n, width] written behind the first ``start`` rows, in place if there is room."""
    if rows is None or rows.shape[1] < start + new.shape[1]:
        larger = new.new_empty(new.shape[0], capacity, *new.shape[2:])
        if rows is not None:
            larger[:, :start] = rows[:, :start]
        rows = larger
    rows[:, start : start + new.shape[1]] = new
    return rows
