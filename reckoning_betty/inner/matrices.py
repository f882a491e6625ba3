"""One adapted weight matrix of B tasks, its products, and the cotangents that flow back into it.

Gradient descent changes a matrix M [out, in] by outer products of tokens: with X_j the inputs of inner step j and
D_j = dL/dY_j the gradients of its outputs,

    M_k = M - sum_{j<k} (alpha_j D_j)^T X_j                                    (DESIGN.md section 3)

``LowRank`` never forms M_k: it multiplies by the shared M and corrects by the factors. ``Stacked`` forms M_k for each
task, one fused product a step. Both answer to the same calls, and neither is an autograd tensor: the graph holds one
*token* per matrix and step, a scalar 0 that every product takes as an input. Backward, each product *notes* its part
of the cotangent, and autograd's order (nothing goes on from a token before all that used it are done) says when a
step's cotangent is complete. So the shared matrix gets its gradient once, from all steps together, instead of one
temporary of its own size per use.

Letters: B tasks, n tokens of one task (all of its rows one after another), r factor rows so far.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from reckoning_betty.inner.recompute import backward_pass, refuse_third_order

PENDING_TOKENS = 512
"""Tokens whose part of the shared matrix's gradient is gathered into one product; more bring no more speed."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The left factor of an outer product: n rows of M per task, dense [B, n, out], or ids [B, n] of single rows.

    Ids stand for one-hot rows: an embedding is a product with them.
    """

    values: Tensor

    @property
    def one_hot(self) -> bool:
        return not self.values.dtype.is_floating_point

    def gram(self, other: "Rows", dtype: torch.dtype) -> Tensor:
        """Inner products of the rows of two factors, [B, n, n of the other]."""
        if self.one_hot and other.one_hot:
            return (self.values.unsqueeze(2) == other.values.unsqueeze(1)).to(dtype)
        if self.one_hot:
            return other.gram(self, dtype).mT
        if other.one_hot:
            return self.values.gather(2, other.values.unsqueeze(1).expand(-1, self.values.shape[1], -1))
        return self.values @ other.values.mT

    def subtract_combined(self, target: Tensor, coefficients: Tensor) -> None:
        """target [B, m, out] -= coefficients [B, m, n] @ rows [B, n, out], in place."""
        if self.one_hot:
            target.scatter_add_(2, self.values.unsqueeze(1).expand_as(coefficients), -coefficients)
        else:
            target.baddbmm_(coefficients, self.values, alpha=-1)


OuterProducts = Sequence[tuple[Rows, Tensor]]
"""Pairs (L, R) of n rows each, [B, n, out] and [B, n, in], that stand for L^T R."""


class Origin:
    """The starting matrix theta_0, shared by all tasks, and its gradient while a backward pass gathers it.

    Args:
        parameter: the model's weight, [out, in], or [in, out] where ``is_transposed`` (transformers' Conv1D).
    """

    def __init__(self, parameter: Tensor, is_transposed: bool):
        self.is_transposed = is_transposed
        self.matrix = parameter.detach().mT if is_transposed else parameter.detach()
        self.in_inner_gradient = False
        """Set while the inner level's gradient is taken: products then pass cotangents on and note nothing."""
        self._gradient: Tensor | None = None
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._pending_tokens = 0
        self._pass = -1

    def note(self, left: Rows, right: Tensor) -> None:
        """M-bar += sum over tasks of left^T right."""
        self._begin()
        right = right.flatten(0, 1)
        if left.one_hot:
            self._target().index_add_(0, left.values.flatten(), right)
            return
        self._pending.append((left.values.flatten(0, 1), right))
        self._pending_tokens += right.shape[0]
        if self._pending_tokens >= PENDING_TOKENS:
            self._gather()

    def add(self, cotangent: Tensor) -> None:
        """M-bar += sum over tasks of ``cotangent`` [B, out, in]."""
        self._begin()
        self._target().add_(cotangent.sum(0))

    def take(self) -> Tensor | None:
        """The whole gradient of this backward pass, in the parameter's own layout."""
        self._begin()
        if self._pending:
            self._gather()
        gradient, self._gradient = self._gradient, None
        if gradient is not None and self.is_transposed:
            return gradient.mT
        return gradient

    def _begin(self) -> None:
        """Forget what is left of another backward pass: one that failed, or that did not ask for this gradient."""
        now = backward_pass()
        if now != self._pass:
            self._pass, self._gradient, self._pending_tokens = now, None, 0
            self._pending.clear()

    def _target(self) -> Tensor:
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.matrix)
        return self._gradient

    def _gather(self) -> None:
        lefts, rights = zip(*self._pending, strict=True)
        left = lefts[0] if len(lefts) == 1 else torch.cat(lefts)
        right = rights[0] if len(rights) == 1 else torch.cat(rights)
        if self._gradient is None:
            self._gradient = (right.mT @ left).mT if self.is_transposed else left.mT @ right
        else:
            self._gradient.addmm_(left.mT, right)
        self._pending.clear()
        self._pending_tokens = 0


class AdaptedMatrix(ABC):
    """M_k of B tasks. Immutable, but for the cotangents that it holds during a backward pass."""

    def __init__(self, origin: Origin, num_tasks: int):
        self.origin = origin
        self.num_tasks = num_tasks

    @abstractmethod
    def product(self, x: Tensor) -> Tensor:
        """x M_k^T: [B, n, in] to [B, n, out]."""

    @abstractmethod
    def transposed_product(self, left: Rows) -> Tensor:
        """left M_k: n rows per task to [B, n, in]."""

    @abstractmethod
    def note(self, left: Rows, right: Tensor) -> None:
        """M_k-bar += left^T right, for each task."""

    @abstractmethod
    def minus(self, outer_products: OuterProducts) -> "AdaptedMatrix":
        """M_{k+1} = M_k - sum of L^T R."""

    @abstractmethod
    def pass_on(self, outer_products: OuterProducts, earlier: "AdaptedMatrix") -> list[Tensor | None]:
        """Backward of ``minus``, called on M_{k+1} once all of its cotangents are noted.

        R-bar = -L M_{k+1}-bar,   L-bar = -R M_{k+1}-bar^T,   M_k-bar += M_{k+1}-bar

        Returns:
            L-bar (None for ids) and R-bar of each outer product in turn.
        """


class LowRank(AdaptedMatrix):
    """The dual form: the shared M and token factors, in chains that the steps of an inner loop share.

    Args:
        segments: (chain, number of its rows) in the order of the steps; the last of a kind may be added to.
    """

    def __init__(self, origin: Origin, num_tasks: int, segments: tuple[tuple["Chain", int], ...] = ()):
        super().__init__(origin, num_tasks)
        self.segments = segments

    def product(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.origin.matrix)
        for chain, length in self.segments:
            left, right = chain.factors(length)
            left.subtract_combined(y, x @ right.mT)
        return y

    def transposed_product(self, left: Rows) -> Tensor:
        x = F.embedding(left.values, self.origin.matrix) if left.one_hot else left.values @ self.origin.matrix
        for chain, length in self.segments:
            factor, right = chain.factors(length)
            x.baddbmm_(left.gram(factor, x.dtype), right, alpha=-1)
        return x

    def note(self, left: Rows, right: Tensor) -> None:
        self.origin.note(left, right)
        for chain, length in self.segments:
            chain.note(length, left, right)

    def minus(self, outer_products: OuterProducts) -> "LowRank":
        segments = list(self.segments)
        for pair in outer_products:
            place = self._last(segments, pair[0].one_hot)
            if place is None or segments[place][0].length != segments[place][1]:  # another step went on from there
                segments.append((Chain(pair[0].one_hot), 0))
                place = len(segments) - 1
            chain = segments[place][0]
            chain.append(pair)
            segments[place] = (chain, chain.length)
        return LowRank(self.origin, self.num_tasks, tuple(segments))

    def pass_on(self, outer_products: OuterProducts, earlier: AdaptedMatrix) -> list[Tensor | None]:
        segments = list(self.segments)
        found: list[Tensor | None] = []
        for left, _ in reversed(outer_products):
            place = self._last(segments, left.one_hot)
            chain, end = segments[place]
            start = end - left.values.shape[1]
            found = [*chain.cotangents(start, end), *found]
            segments[place] = (chain, start)
        return found

    @staticmethod
    def _last(segments: Sequence[tuple["Chain", int]], one_hot: bool) -> int | None:
        places = [place for place, (chain, _) in enumerate(segments) if chain.one_hot == one_hot]
        return places[-1] if places else None


class Chain:
    """Token factors of one kind, and their cotangents; a step uses the first ``length`` rows that it knows of."""

    def __init__(self, one_hot: bool):
        self.one_hot = one_hot
        self.length = 0
        self._left: Tensor | None = None
        self._right: Tensor | None = None
        self._left_bar: Tensor | None = None
        self._right_bar: Tensor | None = None
        self._pass = -1

    def factors(self, length: int) -> tuple[Rows, Tensor]:
        return Rows(self._left[:, :length]), self._right[:, :length]

    def append(self, outer_product: tuple[Rows, Tensor]) -> None:
        left, right = outer_product
        self._left = left.values if self._left is None else torch.cat([self._left, left.values], 1)
        self._right = right if self._right is None else torch.cat([self._right, right], 1)
        self.length += right.shape[1]

    def note(self, length: int, left: Rows, right: Tensor) -> None:
        """With M_k-bar += left^T right, for all earlier factors: R-bar -= L M_k-bar and L-bar -= R M_k-bar^T."""
        if backward_pass() != self._pass:
            self._pass = backward_pass()
            self._right_bar = torch.zeros_like(self._right)
            self._left_bar = None if self.one_hot else torch.zeros_like(self._left)
        factor, factor_right = self.factors(length)
        self._right_bar[:, :length].baddbmm_(factor.gram(left, right.dtype), right, alpha=-1)
        if self._left_bar is not None:
            left.subtract_combined(self._left_bar[:, :length], factor_right @ right.mT)

    def cotangents(self, start: int, end: int) -> tuple[Tensor | None, Tensor | None]:
        """L-bar and R-bar of rows ``start`` to ``end``; the last ones asked for free the memory."""
        if backward_pass() != self._pass or self._right_bar is None:
            return None, None
        left, right = (None if bar is None else bar[:, start:end] for bar in (self._left_bar, self._right_bar))
        if start == 0:
            self._left_bar = self._right_bar = None
            self._pass = -1
        return left, right


class Stacked(AdaptedMatrix):
    """One matrix per task, [B, out, in]; before the first step still the shared one."""

    def __init__(self, origin: Origin, num_tasks: int, stack: Tensor | None = None):
        super().__init__(origin, num_tasks)
        self.stack = stack
        self._bar: Tensor | None = None
        self._pass = -1

    def product(self, x: Tensor) -> Tensor:
        return F.linear(x, self.origin.matrix) if self.stack is None else x @ self.stack.mT

    def transposed_product(self, left: Rows) -> Tensor:
        matrix = self.origin.matrix if self.stack is None else self.stack
        if not left.one_hot:
            return left.values @ matrix
        if self.stack is None:
            return F.embedding(left.values, matrix)
        return matrix.flatten(0, 1)[self._places(left)].unflatten(0, left.values.shape)

    def note(self, left: Rows, right: Tensor) -> None:
        self._begin()
        if self.stack is None:
            self.origin.note(left, right)
        elif left.one_hot:
            if self._bar is None:
                self._bar = torch.zeros_like(self.stack)
            self._bar.flatten(0, 1).index_add_(0, self._places(left), right.flatten(0, 1))
        elif self._bar is None:
            self._bar = left.values.mT @ right
        else:
            self._bar.baddbmm_(left.values.mT, right)

    def minus(self, outer_products: OuterProducts) -> "Stacked":
        start = self.origin.matrix.expand(self.num_tasks, -1, -1) if self.stack is None else self.stack
        stack = None
        for left, right in outer_products:
            if left.one_hot:
                stack = start.clone(memory_format=torch.contiguous_format) if stack is None else stack
                stack.flatten(0, 1).index_add_(0, self._places(left), right.flatten(0, 1), alpha=-1)
            elif stack is None:
                stack = torch.baddbmm(start, left.values.mT, right, alpha=-1)
            else:
                stack.baddbmm_(left.values.mT, right, alpha=-1)
        return Stacked(self.origin, self.num_tasks, self.stack if stack is None else stack)

    def pass_on(self, outer_products: OuterProducts, earlier: AdaptedMatrix) -> list[Tensor | None]:
        self._begin()
        bar, self._bar = self._bar, None
        if bar is None:
            return [None] * (2 * len(outer_products))
        found: list[Tensor | None] = []
        for left, right in outer_products:
            if left.one_hot:
                found += [None, bar.flatten(0, 1)[self._places(left)].view_as(right).neg_()]
            else:
                found += [(right @ bar.mT).neg_(), (left.values @ bar).neg_()]
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
        offsets = torch.arange(self.num_tasks, device=left.values.device) * self.origin.matrix.shape[0]
        return (left.values + offsets.unsqueeze(1)).flatten()


class Anchor(Function):
    """The token of theta_0; backward gives the gradient that all products noted."""

    @staticmethod
    def forward(ctx, parameter: Tensor, origin: Origin) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.origin = origin
        return parameter.new_zeros(())

    @staticmethod
    def backward(ctx, _):
        refuse_third_order()
        return ctx.origin.take(), None


class Update(Function):
    """The token of M_{k+1} = M_k - sum of L^T R, as a function of M_k's token and of the factors."""

    @staticmethod
    def forward(ctx, token: Tensor, new: AdaptedMatrix, old: AdaptedMatrix, outer_products, *factors: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.new, ctx.old, ctx.outer_products = new, old, outer_products
        return torch.zeros_like(token)

    @staticmethod
    def backward(ctx, _):
        refuse_third_order()
        return None, None, None, None, *ctx.new.pass_on(ctx.outer_products, ctx.old)


class Product(Function):
    """y = x M^T + b for each task: x [.., in], b [B, out], y [.., out], the first task's tokens first."""

    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor | None, token: Tensor, matrix: AdaptedMatrix) -> Tensor:
        ctx.matrix, ctx.has_bias = matrix, bias is not None
        ctx.save_for_backward(x, token)
        y = matrix.product(by_task(x, matrix.num_tasks))
        if bias is not None:
            y.add_(bias.unsqueeze(1))
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx, g: Tensor):
        x, token = ctx.saved_tensors
        matrix, x_bar = ctx.matrix, None
        rows = by_task(g, matrix.num_tasks)
        if matrix.origin.in_inner_gradient:
            if ctx.needs_input_grad[0]:
                x_bar = TransposedProduct.apply(g, token, matrix)
        else:
            refuse_third_order()
            matrix.note(Rows(rows), by_task(x, matrix.num_tasks))
            if ctx.needs_input_grad[0]:
                x_bar = matrix.transposed_product(Rows(rows)).view(x.shape)
        return x_bar, rows.sum(1) if ctx.has_bias else None, None, None


class TransposedProduct(Function):
    """x = g M for each task: g [.., out], x [.., in]. With ids [..] for g, an embedding."""

    @staticmethod
    def forward(ctx, g: Tensor, token: Tensor, matrix: AdaptedMatrix) -> Tensor:
        ctx.matrix = matrix
        ctx.save_for_backward(g)
        left = rows_of(g, matrix.num_tasks)
        x = matrix.transposed_product(left)
        return x.view(*(g.shape if left.one_hot else g.shape[:-1]), x.shape[-1])

    @staticmethod
    def backward(ctx, u: Tensor):
        (g,) = ctx.saved_tensors
        matrix = ctx.matrix
        left = rows_of(g, matrix.num_tasks)
        if matrix.origin.in_inner_gradient and left.one_hot:
            return None, None, None  # ids are where the inner level's gradient ends
        refuse_third_order()
        right = by_task(u, matrix.num_tasks)
        matrix.note(left, right)
        return None if left.one_hot else matrix.product(right).view(g.shape), None, None


def by_task(x: Tensor, num_tasks: int) -> Tensor:
    """[.., width] to [B, n, width]."""
    return x.reshape(num_tasks, -1, x.shape[-1])


def rows_of(left: Tensor, num_tasks: int) -> Rows:
    """Dense rows [.., out] or ids [..], by task."""
    return Rows(by_task(left, num_tasks) if left.dtype.is_floating_point else left.reshape(num_tasks, -1))
