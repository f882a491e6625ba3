"""Inner steps whose graph does not outlive them, so that memory hardly grows with their number.

Per-layer checkpointing recomputes with whatever weights the model holds by then, which are not the fast weights, and
gives wrong hypergradients without an error (DESIGN.md section 5). A whole step as a function of explicit tensors
cannot. ``recomputed`` runs it once without graph, and once more, with graph, when its outputs' cotangents are known.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils._pytree import tree_flatten, tree_unflatten

Tree = Any
"""Nested dicts, lists and tuples of tensors."""


def recomputed(function: Callable[[Tree, bool], Tree], inputs: Tree, shared: Sequence[Tensor] = ()) -> Tree:
    """``function(inputs, True)``, whose graph exists only while the hypergradient passes through it.

    Args:
        function: of floating-point tensors, and whether to build the graph of the inner gradient; gives the same
            structure each time.
        inputs: the tensors that ``function`` is given.
        shared: leaves that it uses without being given them, and that the hypergradient should reach too.
    """
    flat, structure = tree_flatten(inputs)
    made: list = []

    def run(tensors: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
        outputs, output_structure = tree_flatten(function(tree_unflatten(tensors, structure), create_graph))
        made[:] = [output_structure]
        return outputs

    outputs = _Recomputed.apply(run, len(flat), *flat, *shared)
    return tree_unflatten(list(outputs), made[0])


class _Recomputed(Function):
    @staticmethod
    def forward(ctx, run: Callable, num_inputs: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.run, ctx.num_inputs = run, num_inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        leaves = [tensor.detach().requires_grad_() for tensor in tensors[:num_inputs]]
        with torch.enable_grad():
            outputs = run(leaves, False)
        ctx.mark_non_differentiable(*(output for output in outputs if not output.is_floating_point()))
        return tuple(output.detach() for output in outputs)

    @staticmethod
    def backward(ctx, *cotangents: Tensor | None):
        refuse_third_order()
        inputs, shared = ctx.saved_tensors[: ctx.num_inputs], ctx.saved_tensors[ctx.num_inputs :]
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        with torch.enable_grad():
            outputs = ctx.run(leaves, True)
        pairs = [(o, g) for o, g in zip(outputs, cotangents, strict=True) if g is not None and o.requires_grad]
        reached, bars = [output for output, _ in pairs], [bar for _, bar in pairs]
        with _same_pass():
            gradients = torch.autograd.grad(reached, [*leaves, *shared], bars, allow_unused=True)
        return None, None, *gradients


_outermost: list[int] = []


def backward_pass() -> int:
    """A number for the backward pass that is running, the same in the passes that recomputed steps run within it."""
    return _outermost[0] if _outermost else torch._C._current_graph_task_id()


def keeps_graph() -> bool:
    """Whether the backward pass that is running may be followed by another through the same graph."""
    return torch._C._autograd._get_current_graph_task_keep_graph()


@contextmanager
def _same_pass() -> Iterator[None]:
    _outermost.append(backward_pass())
    try:
        yield
    finally:
        _outermost.pop()


def refuse_third_order() -> None:
    """Raise if a backward pass is itself to be differentiated."""
    if torch.is_grad_enabled():
        raise RuntimeError("These fast weights are twice differentiable: take the hypergradient without create_graph.")
