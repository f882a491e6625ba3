"""Inner steps whose graph does not outlive them, so that memory hardly grows with their number.

Per-layer checkpointing recomputes with whatever weights the model holds by then, which are not the fast weights, and
gives wrong hypergradients without an error (DESIGN.md section 5). A whole step as a function of explicit tensors
cannot. ``recomputed`` runs it once without graph, and once more, with graph, when its outputs' cotangents are known;
``forward_over_reverse`` needs no second-order graph at all.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.func import grad_and_value, jvp
from torch.utils._pytree import tree_flatten, tree_unflatten

Tree = Any
"""Nested dicts, lists and tuples of tensors."""

Copies = list[dict[str, Tensor]]
"""theta_k by parameter name, for each task."""


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


def forward_over_reverse(
    loss_of: Callable[[Copies, dict[str, Tensor]], Tensor],
    copies: Copies,
    rates: dict[str, Tensor],
    shared: dict[str, Tensor],
) -> tuple[Copies, Tensor]:
    """A step of gradient descent whose part of the hypergradient is a directional derivative of its gradient g.

    With v the cotangent of theta_{k+1} = theta_k - alpha g(theta_k), and H the Hessian of the inner loss,

        theta_k-bar = v - H (alpha v),   alpha-bar[l] = -<v_l, g_l>

    where H u is the derivative of g along u, forward mode over reverse mode (MixFlow-MG, arXiv 2505.00793, section 3).
    Parameters that do not move get the part of -H (alpha v) that is theirs.

    Args:
        loss_of: the tasks' losses [B] as a function of the copies and of the parameters that do not move.
        copies: theta_k.
        rates: alpha by parameter name, scalars.
        shared: trained parameters that do not move, by name.

    Returns:
        theta_{k+1} and the losses [B].
    """
    flat, structure = tree_flatten((copies, rates, shared))

    def gradient(now: Copies, kept: dict[str, Tensor]) -> tuple[tuple[Copies, dict[str, Tensor]], Tensor]:
        def total(inner: Copies, others: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            losses = loss_of(inner, others)
            return losses.sum(), losses

        found, (_, losses) = grad_and_value(total, argnums=(0, 1), has_aux=True)(now, kept)
        return found, losses

    losses, *moved = _Swept.apply(gradient, structure, *flat)
    names = list(copies[0])
    return [dict(zip(names, moved[i : i + len(names)], strict=True)) for i in range(0, len(moved), len(names))], losses


class _Swept(Function):
    @staticmethod
    def forward(ctx, gradient: Callable, structure: Any, *flat: Tensor) -> tuple[Tensor, ...]:
        ctx.gradient, ctx.structure = gradient, structure
        ctx.save_for_backward(*flat)
        copies, rates, shared = tree_unflatten([tensor.detach() for tensor in flat], structure)
        (found, _), losses = gradient(copies, shared)
        ctx.mark_non_differentiable(losses)
        moved = [copy[n] - rates[n] * g[n] for copy, g in zip(copies, found, strict=True) for n in copy]
        return losses, *moved

    @staticmethod
    def backward(ctx, _, *bars: Tensor):
        refuse_third_order()
        copies, rates, shared = tree_unflatten([tensor.detach() for tensor in ctx.saved_tensors], ctx.structure)
        remaining = iter(bars)
        v = [{name: next(remaining) for name in copy} for copy in copies]
        u = [{name: rates[name] * bar for name, bar in copy.items()} for copy in v]
        still = {name: torch.zeros_like(tensor) for name, tensor in shared.items()}
        (g, _), (hessian_u, of_shared) = jvp(lambda *now: ctx.gradient(*now)[0], (copies, shared), (u, still))
        copies_bar = [{n: copy[n] - h[n] for n in copy} for copy, h in zip(v, hessian_u, strict=True)]
        rates_bar = {n: -sum((a[n] * b[n]).sum() for a, b in zip(v, g, strict=True)) for n in rates}
        shared_bar = {name: -tensor for name, tensor in of_shared.items()}
        return None, None, *tree_flatten((copies_bar, rates_bar, shared_bar))[0]


def refuse_third_order() -> None:
    """Raise if a backward pass is itself to be differentiated."""
    if torch.is_grad_enabled():
        raise RuntimeError("These fast weights are twice differentiable: take the hypergradient without create_graph.")
