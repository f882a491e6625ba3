"""How the matrices of ``matrices.py`` stand in the autograd graph, as objects that are no tensors.

The graph holds one *token* per matrix and step, a scalar 0 that every product takes as an input. Backward, each product
*notes* its part of the cotangent, and autograd's order (nothing goes on from a token before all that used it are done)
says when a step's cotangent is complete. So the shared matrix gets its gradient once, from all steps together, instead
of one temporary of its own size per use.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from reckoning_betty.inner.matrices import AdaptedMatrix, Origin, Rows
from reckoning_betty.inner.recompute import refuse_third_order


class Anchor(Function):
    """The token of theta_0; backward gives the gradient that all products noted."""

    @staticmethod
    def forward(ctx, parameter: Tensor, origin: Origin) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.origin = origin
        return torch.zeros((), dtype=parameter.dtype, device=parameter.device)

    @staticmethod
    def backward(ctx, _):
        refuse_third_order()
        return ctx.origin.take(), None


class Update(Function):
    """The token of M_{k+1} = M_k - sum of L^T R, as a function of M_k's token and of the factors, if they need it."""

    @staticmethod
    def forward(ctx, token: Tensor, new: AdaptedMatrix, old: AdaptedMatrix, *factors: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.new, ctx.old, ctx.num_factors = new, old, len(factors)
        return torch.zeros_like(token)

    @staticmethod
    def backward(ctx, _):
        refuse_third_order()
        return None, None, None, *ctx.new.pass_on(ctx.old)[: ctx.num_factors]


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
            if ctx.needs_input_grad[2]:  # a frozen matrix has no gradient to gather
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
        if ctx.needs_input_grad[1]:
            matrix.note(left, right)
        return None if left.one_hot else matrix.product(right).view(g.shape), None, None


def by_task(x: Tensor, num_tasks: int) -> Tensor:
    """[.., width] to [B, n, width]."""
    return x.reshape(num_tasks, -1, x.shape[-1])


def rows_of(left: Tensor, num_tasks: int) -> Rows:
    """Dense rows [.., out] or ids [..], by task."""
    return Rows(by_task(left, num_tasks) if left.dtype.is_floating_point else left.reshape(num_tasks, -1))
