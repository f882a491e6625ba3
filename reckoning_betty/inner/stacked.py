"""The materialised form of an adapted matrix: one per task."""

import torch
from torch import Tensor

from reckoning_betty.inner.matrices import AdaptedMatrix, Origin, OuterProducts, Rows
from reckoning_betty.inner.precision import add_product, multiply
from reckoning_betty.inner.recompute import backward_pass


class Stacked(AdaptedMatrix):
    """One matrix per task, [B, out, in]; before the first step still the shared one."""

    def __init__(self, origin: Origin, num_tasks: int, stack: Tensor | None = None):
        super().__init__(origin, num_tasks)
        self.stack = stack
        self.outer_products: OuterProducts = ()
        """Those that the last step brought, if they are kept."""
        self._owns_stack = False
        self._bar: Tensor | None = None
        self._pass = -1

    def product(self, x: Tensor) -> Tensor:
        return self.origin.product(x) if self.stack is None else multiply(x, self.stack.mT, self.origin.rounded)

    def transposed_product(self, left: Rows) -> Tensor:
        if self.stack is None:
            return self.origin.transposed_product(left)
        if not left.one_hot:
            return multiply(left.values, self.stack, self.origin.rounded)
        return self.stack.flatten(0, 1)[self._places(left)].unflatten(0, left.values.shape)

    def note(self, left: Rows, right: Tensor) -> None:
        self._begin()
        if self.stack is None:
            self.origin.note(left, right)
        elif left.one_hot:
            if self._bar is None:
                self._bar = torch.zeros_like(self.stack)
            self._bar.flatten(0, 1).index_add_(0, self._places(left), right.flatten(0, 1))
        elif self._bar is None:
            self._bar = multiply(left.values.mT, right, self.origin.rounded)
        else:
            add_product(self._bar, left.values.mT, right, self.origin.rounded)

    def minus(self, outer_products: OuterProducts, num_passes: int = 1, kept: bool = True) -> "Stacked":
        new = Stacked(self.origin, self.num_tasks, self.stack)
        new.subtract(outer_products, kept)
        return new

    def subtract(self, outer_products: OuterProducts, kept: bool = True) -> None:
        start = self.origin.matrix.expand(self.num_tasks, -1, -1) if self.stack is None else self.stack
        stack = self.stack if self._owns_stack else None  # the first writes to memory of its own
        rounded = self.origin.rounded
        for left, right in outer_products:
            if left.one_hot:
                stack = start.clone(memory_format=torch.contiguous_format) if stack is None else stack
                stack.flatten(0, 1).index_add_(0, self._places(left), right.flatten(0, 1), alpha=-1)
            elif stack is None and rounded is None:
                stack = torch.baddbmm(start, left.values.mT, right, alpha=-1)
            else:
                stack = start.clone(memory_format=torch.contiguous_format) if stack is None else stack
                add_product(stack, left.values.mT, right, rounded, alpha=-1)
        if stack is not None:
            self.stack, self._owns_stack = stack, True
        if kept:
            self.outer_products = [*self.outer_products, *outer_products]

    def pass_on(self, earlier: AdaptedMatrix) -> list[Tensor | None]:
        self._begin()
        bar, self._bar, rounded = self._bar, None, self.origin.rounded
        if bar is None:
            return [None] * (2 * len(self.outer_products))
        found: list[Tensor | None] = []
        for left, right in self.outer_products:
            if left.one_hot:
                found += [None, bar.flatten(0, 1)[self._places(left)].view_as(right).neg_()]
            else:
                found += [multiply(right, bar.mT, rounded).neg_(), multiply(left.values, bar, rounded).neg_()]
        earlier.receive(bar)
        return found

    def receive(self, bar: Tensor) -> None:
        """M_k-bar += ``bar`` [B, out, in], which is given up."""
        self._begin()
        if self.stack is None:
            self.origin.add(bar)
        elif self._bar is None:
            self._bar = bar
        else:
            self._bar.add_(bar)

    def _begin(self) -> None:
        """Forget what a backward pass that failed, or that did not need it, left behind."""
        if backward_pass() != self._pass:
            self._pass, self._bar = backward_pass(), None

    def _places(self, left: Rows) -> Tensor:
        """Ids [B, n] as places among the rows of all tasks' matrices, [B * n]."""
        offsets = torch.arange(self.num_tasks, device=left.values.device) * self.origin.shape[0]
        return (left.values + offsets.unsqueeze(1)).flatten()
