"""One adapted weight matrix of B tasks, its products, and the cotangents that flow back into it.

Gradient descent changes a matrix M [out, in] by outer products of tokens: with X_j the inputs of inner step j and
D_j = dL/dY_j the gradients of its outputs,

    M_k = M - sum_{j<k} (alpha_j D_j)^T X_j                                    (DESIGN.md section 3)

``LowRank`` never forms M_k: it multiplies by the shared M and corrects by the factors. ``Stacked`` forms M_k for each
task, one fused product a step. Both answer to the same calls, and neither is an autograd tensor: ``products.py`` ties
them to the graph.

Letters: B tasks, n tokens of one task (all of its rows one after another), r factor rows so far.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reckoning_betty.distributed.sharding import is_sharded, sharded_like, whole
from reckoning_betty.inner.precision import add_product, multiply
from reckoning_betty.inner.recompute import backward_pass

PENDING_SHARE = 0.25
"""What may wait to be gathered into a shared matrix's gradient, as a share of its size: a product of few tokens costs
little more than reading and writing the matrix, and one of many no more than its operations."""

PENDING_ELEMENTS = 2**18
"""The same for small matrices, whose products cost as much as a call does."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The left factor of an outer product: n rows of M per task, dense [B, n, out], or ids [B, n] of single rows.

    Ids stand for one-hot rows: an embedding is a product with them.
    """

    values: Tensor

    @property
    def one_hot(self) -> bool:
        return not self.values.dtype.is_floating_point

    def gram(self, other: "Rows", dtype: torch.dtype, rounded: torch.dtype | None = None) -> Tensor:
        """Inner products of the rows of two factors, [B, n, n of the other], in ``dtype``."""
        if self.one_hot and other.one_hot:
            return (self.values.unsqueeze(2) == other.values.unsqueeze(1)).to(dtype)
        if self.one_hot:
            return other.gram(self, dtype, rounded).mT
        if other.one_hot:
            return self.values.gather(2, other.values.unsqueeze(1).expand(-1, self.values.shape[1], -1))
        return multiply(self.values, other.values.mT, rounded)

    def subtract_combined(self, target: Tensor, coefficients: Tensor, rounded: torch.dtype | None = None) -> None:
        """target [B, m, out] -= coefficients [B, m, n] @ rows [B, n, out], in place."""
        if self.one_hot:
            target.scatter_add_(2, self.values.unsqueeze(1).expand_as(coefficients), -coefficients)
        else:
            add_product(target, coefficients, self.values, rounded, alpha=-1)


OuterProducts = Sequence[tuple[Rows, Tensor]]
"""Pairs (L, R) of n rows each, [B, n, out] and [B, n, in], that stand for L^T R."""


class Origin:
    """The starting matrix theta_0, shared by all tasks, and its gradient while a backward pass gathers it.

    Args:
        parameter: the model's weight, [out, in], or [in, out] where ``is_transposed`` (transformers' Conv1D); each
            process may hold a part of it (``distributed/sharding.py``).
        rounded: what the factors of products are rounded to (``precision.py``).
    """

    def __init__(self, parameter: Tensor, is_transposed: bool, rounded: torch.dtype | None = None):
        self.parameter = parameter
        self.rounded = rounded
        self.is_transposed = is_transposed
        self.shape = parameter.shape[::-1] if is_transposed else parameter.shape
        self._held = None if is_sharded(parameter) else self._gathered()
        self._factor: Tensor | None = None
        self.in_inner_gradient = False
        """Set while the inner level's gradient is taken: products then pass cotangents on and note nothing."""
        self._gradient: Tensor | None = None
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._pending_elements = 0
        self._pass = -1

    @property
    def matrix(self) -> Tensor:
        """theta_0, [out, in]; gathered for this use alone if it is sharded."""
        return self._gathered() if self._held is None else self._held

    @property
    def factor(self) -> Tensor:
        """theta_0 as products take it, rounded; the copy is kept as long as the whole matrix is."""
        if self.rounded is None or self._held is None:
            return self.matrix if self.rounded is None else self.matrix.to(self.rounded)
        if self._factor is None:
            self._factor = self._held.to(self.rounded)
        return self._factor

    def _gathered(self) -> Tensor:
        matrix = whole(self.parameter)
        return matrix.mT if self.is_transposed else matrix

    def product(self, x: Tensor) -> Tensor:
        """x theta_0^T: [.., in] to [.., out]."""
        if self.rounded is None:
            return F.linear(x, self.matrix)
        return F.linear(x.to(self.rounded), self.factor).to(x.dtype)

    def transposed_product(self, left: Rows) -> Tensor:
        """left theta_0: n rows per task to [B, n, in]; single rows are not rounded."""
        return (
            F.embedding(left.values, self.matrix) if left.one_hot else multiply(left.values, self.factor, self.rounded)
        )

    def note(self, left: Rows, right: Tensor) -> None:
        """M-bar += sum over tasks of left^T right."""
        self._begin()
        right = right.flatten(0, 1)
        if left.one_hot:
            self._target().index_add_(0, left.values.flatten(), right)
            return
        self._pending.append((left.values.flatten(0, 1), right))
        self._pending_elements += right.shape[0] * sum(self.shape)
        if self._pending_elements >= max(PENDING_SHARE * self.shape.numel(), PENDING_ELEMENTS):
            self._gather()

    def add(self, cotangent: Tensor) -> None:
        """M-bar += sum over tasks of ``cotangent`` [B, out, in]."""
        self._begin()
        self._target().add_(cotangent.sum(0))

    def take(self) -> Tensor | None:
        """The whole gradient of this backward pass, in the parameter's own layout.

        For a sharded one it is the sum over all processes' tasks, sharded alike.
        """
        self._begin()
        if self._pending:
            self._gather()
        gradient, self._gradient = self._gradient, None
        if gradient is not None and self.is_transposed:
            gradient = gradient.mT
        if gradient is not None and is_sharded(self.parameter):
            return sharded_like(self.parameter, gradient)
        return gradient

    def _begin(self) -> None:
        """Forget what is left of another backward pass: one that failed, or that did not ask for this gradient."""
        now = backward_pass()
        if now != self._pass:
            self._pass, self._gradient, self._pending_elements = now, None, 0
            self._pending.clear()

    def _target(self) -> Tensor:
        if self._gradient is None:
            zeros = torch.zeros(self.parameter.shape, dtype=self.parameter.dtype, device=self.parameter.device)
            self._gradient = zeros.mT if self.is_transposed else zeros
        return self._gradient

    def _gather(self) -> None:
        lefts, rights = zip(*self._pending, strict=True)
        left = lefts[0] if len(lefts) == 1 else torch.cat(lefts)
        right = rights[0] if len(rights) == 1 else torch.cat(rights)
        if self.rounded is not None:
            self._target().add_(left.to(self.rounded).mT @ right.to(self.rounded))
        elif self._gradient is None:
            self._gradient = (right.mT @ left).mT if self.is_transposed else left.mT @ right
        else:
            self._gradient.addmm_(left.mT, right)
        self._pending.clear()
        self._pending_elements = 0


class AdaptedMatrix(ABC):
    """M_k of B tasks. Immutable once its step is done, but for the cotangents that it holds during a backward pass."""

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
    def minus(self, outer_products: OuterProducts, num_passes: int = 1, kept: bool = True) -> "AdaptedMatrix":
        """M_{k+1} = M_k - sum of L^T R.

        Args:
            num_passes: in how many parts the outer products come; the others follow by ``subtract``.
            kept: whether the backward pass will ask for their cotangents.
        """

    @abstractmethod
    def subtract(self, outer_products: OuterProducts, kept: bool = True) -> None:
        """M_{k+1} -= sum of L^T R, in place: a further pass of the step that made it, before anything uses it."""

    @abstractmethod
    def pass_on(self, earlier: "AdaptedMatrix") -> list[Tensor | None]:
        """Backward of ``earlier.minus``, which made M_{k+1}; called once all of its cotangents are noted.

        R-bar = -L M_{k+1}-bar,   L-bar = -R M_{k+1}-bar^T,   M_k-bar += M_{k+1}-bar

        Returns:
            L-bar (None for ids) and R-bar of each outer product that was ``kept``, in turn.
        """
