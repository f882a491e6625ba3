"""Objects that stand in for a model's parameters during one forward pass in which every task has its own weights.

The tasks' rows go through the model as one batch, the first task's rows first. Where the model's code uses an adapted
parameter (``F.linear``, ``F.embedding``, ``torch.addmm``, norms, sums and products), torch hands the call to the
stand-in (``__torch_function__``), which gives each task's part of the batch that task's own weights. So any model runs
as it is, tied and subclassed layers included, and what is not known here is refused instead of computed wrongly.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from reckoning_betty.errors import UserError
from reckoning_betty.inner.smooth import layer_norm

Linear = Callable[[Tensor, Tensor | None], Tensor]
"""x [.., in] and bias [B, out] or None to y [.., out]."""
Lookup = Callable[[Tensor, int | None], Tensor]
"""ids [..] and the id that is not learned (padding) or None to rows [.., in]."""


class StandIn:
    """What both kinds share: the attributes that model code reads, and the dispatch of torch's calls."""

    def __init__(self, name: str, parameter: nn.Parameter, num_tasks: int):
        self.name = name
        self.num_tasks = num_tasks
        self.shape, self.dtype, self.device = parameter.shape, parameter.dtype, parameter.device
        self.ndim = parameter.ndim

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        call = CALLS.get(function)
        if call is None:
            own = next(value for value in tree_leaves((args, kwargs or {})) if isinstance(value, StandIn))
            raise own.refusal(getattr(function, "__name__", str(function)))
        return call(*args, **(kwargs or {}))

    def refusal(self, operation: str) -> UserError:
        return UserError(
            f"The model uses its parameter {self.name} in '{operation}', which cannot run for all tasks at once: "
            "take inner.fast_weights=looped, or leave the parameter out of inner.adapt."
        )

    def size(self, dim: int | None = None):
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim

    def refuse_uneven(self, x: Tensor) -> None:
        """Raise UserError if the rows cannot be those of all tasks, as many of each."""
        if x.shape[0] % self.num_tasks:
            raise self.refusal(f"a batch of {x.shape[0]} rows")

    def by_task(self, x: Tensor, trailing: int) -> Tensor:
        """[rows, ..., last dims] to [B, n, last dims]: rows of one task are neighbours."""
        self.refuse_uneven(x)
        return x.reshape(self.num_tasks, -1, *x.shape[x.ndim - trailing :])

    def __getattr__(self, attribute: str):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise self.refusal(f".{attribute}")


def _refused(operator: str) -> Callable:
    def refuse(self: StandIn, *others: Any) -> Any:
        raise self.refusal(operator)

    return refuse


for _operator in (
    *("getitem", "len", "iter", "neg", "abs", "pow", "rpow", "bool", "float", "int"),
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "matmul", "rmatmul"),
    *("lt", "le", "gt", "ge"),
):
    # Python looks operators up on the class, past __getattr__
    setattr(StandIn, f"__{_operator}__", _refused(_operator))


class MatrixStandIn(StandIn):
    """A weight matrix or a table of embeddings."""

    def __init__(self, name: str, parameter: nn.Parameter, num_tasks: int, linear: Linear, lookup: Lookup):
        super().__init__(name, parameter, num_tasks)
        self.linear = linear
        self.lookup = lookup


class VectorStandIn(StandIn):
    """A bias, a norm's weight, or any parameter that is added or multiplied element by element, [B, *shape]."""

    def __init__(self, name: str, parameter: nn.Parameter, num_tasks: int, values: Tensor):
        super().__init__(name, parameter, num_tasks)
        self.parameter = parameter
        self.values = values

    def like(self, values: Tensor) -> "VectorStandIn":
        return VectorStandIn(self.name, self.parameter, self.num_tasks, values)

    def float(self) -> "VectorStandIn":
        return self.like(self.values.float())

    def to(self, *args: Any, **options: Any) -> "VectorStandIn":
        return self.like(self.values.to(*args, **options))

    def type_as(self, other: Tensor) -> "VectorStandIn":
        return self.like(self.values.type_as(other))

    def combined(self, operation: Callable, other: Any, is_left: bool) -> "VectorStandIn | Tensor":
        """``operation`` with numbers keeps this kind; with a tensor of the batch it gives one of the batch."""
        if isinstance(other, VectorStandIn):
            return self.like(operation(self.values, other.values))
        if not isinstance(other, Tensor) or other.ndim == 0:
            return self.like(operation(self.values, other) if is_left else operation(other, self.values))
        x = self.by_task(other, self.ndim)
        values = self.values.unsqueeze(1)
        return (operation(values, x) if is_left else operation(x, values)).view(other.shape)

    def __add__(self, other):
        return self.combined(torch.add, other, True)

    def __radd__(self, other):
        return self.combined(torch.add, other, False)

    def __sub__(self, other):
        return self.combined(torch.sub, other, True)

    def __rsub__(self, other):
        return self.combined(torch.sub, other, False)

    def __mul__(self, other):
        return self.combined(torch.mul, other, True)

    def __rmul__(self, other):
        return self.combined(torch.mul, other, False)


@contextmanager
def standing_in(places: dict[tuple[nn.Module, str], Any]) -> Iterator[None]:
    """Put objects in front of the modules' parameters or children, which stay where they are."""
    for (module, attribute), stand_in in places.items():
        module.__dict__[attribute] = stand_in  # found before nn.Module looks into its own
    try:
        yield
    finally:
        for module, attribute in places:
            del module.__dict__[attribute]


def _linear(input: Tensor, weight: Any, bias: Any = None) -> Tensor:
    if not isinstance(weight, MatrixStandIn):
        if isinstance(bias, VectorStandIn) and not isinstance(weight, StandIn):
            return bias.combined(torch.add, F.linear(input, weight), False)
        raise weight.refusal("linear")
    own = bias if isinstance(bias, VectorStandIn) else None
    weight.refuse_uneven(input)
    y = weight.linear(input, None if own is None else own.values)
    return y + bias if bias is not None and own is None else y


def _addmm(input: Any, mat1: Tensor, mat2: Any) -> Tensor:
    """transformers' Conv1D: bias + x W, whose W is [in, out]; ``linear`` of the stand-in knows."""
    if isinstance(mat2, MatrixStandIn):
        return _linear(mat1, mat2, input)
    return input.combined(torch.add, mat1 @ mat2, False)


def _embedding(
    input: Tensor,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    if not isinstance(weight, MatrixStandIn) or max_norm is not None or scale_grad_by_freq or sparse:
        raise weight.refusal("embedding with options")
    return weight.lookup(input, padding_idx)


def _layer_norm(input: Tensor, normalized_shape, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    if weight.__class__ is bias.__class__ is VectorStandIn and len(normalized_shape) == 1:
        weight.refuse_uneven(input)
        return layer_norm(input, weight.values, bias.values, eps)
    return _affine(F.layer_norm(input, normalized_shape, None, None, eps), weight, bias)


def _rms_norm(input: Tensor, normalized_shape, weight: Any = None, eps: float | None = None) -> Tensor:
    return _affine(F.rms_norm(input, normalized_shape, None, eps), weight, None)


def _affine(x: Tensor, weight: Any, bias: Any) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _elementwise(operation: Callable) -> Callable:
    def call(left: Any, right: Any) -> Any:
        own, is_left = (left, True) if isinstance(left, StandIn) else (right, False)
        if not isinstance(own, VectorStandIn):
            raise own.refusal(operation.__name__)
        return own.combined(operation, right if is_left else left, is_left)

    return call


CALLS: dict[Callable, Callable] = {
    F.linear: _linear,
    torch.addmm: _addmm,
    F.embedding: _embedding,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    **{
        function: _elementwise(operation)
        for operation, functions in {
            torch.add: (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__),
            torch.sub: (torch.sub, Tensor.sub, Tensor.__sub__),
            torch.mul: (torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__),
        }.items()
        for function in functions
    },
}
"""The calls that model code makes with adapted parameters, and what runs in their place."""
