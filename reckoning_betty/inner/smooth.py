"""Norms and activations with derivatives written out, because autograd's second derivatives of them are slow.

Each gives the values and both derivatives of the operation that it replaces, in a few operations instead of dozens.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Normalise(Function):
    """Layer norm without weight and bias, over the last dimension: n = r (x - mean x), r = 1 / sqrt(var x + eps).

    dn = r P dx,   P v = v - mean(v) - n mean(n v)
    """

    @staticmethod
    def forward(ctx, x: Tensor, eps: float) -> Tensor:
        n, mean, r = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        ctx.save_for_backward(x, n, mean, r)
        return n

    @staticmethod
    def backward(ctx, g: Tensor):
        return NormaliseBackward.apply(g, *ctx.saved_tensors), None


class NormaliseBackward(Function):
    """h = r P g. With u = dL/dh, and P symmetric: g-bar = r P u, and

    x-bar = -r (mean(u h) n + mean(n g) g-bar + mean(n u) h)
    """

    @staticmethod
    def forward(ctx, g: Tensor, x: Tensor, n: Tensor, mean: Tensor, r: Tensor) -> Tensor:
        h = _backward(g, x, mean, r)
        ctx.save_for_backward(g, h, x, n, mean, r)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, u: Tensor):
        g, h, x, n, mean, r = ctx.saved_tensors
        g_bar = _backward(u, x, mean, r)
        x_bar = n * (u * h).mean(-1, keepdim=True)
        x_bar.addcmul_(g_bar, (n * g).mean(-1, keepdim=True))
        x_bar.addcmul_(h, (n * u).mean(-1, keepdim=True))
        return g_bar, x_bar.mul_(-r), None, None, None


def _backward(g: Tensor, x: Tensor, mean: Tensor, r: Tensor) -> Tensor:
    return torch.ops.aten.native_layer_norm_backward(g, x, x.shape[-1:], mean, r, None, None, [True, False, False])[0]


def layer_norm(x: Tensor, eps: float) -> Tensor:
    """``F.layer_norm`` over the last dimension, without weight and bias."""
    return Normalise.apply(x, eps)


class Gelu(Function):
    """GELU in its tanh form, f(x) = x (1 + t) / 2 with t = tanh(c (x + a x^3))."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.gelu(x, approximate="tanh")

    @staticmethod
    def backward(ctx, g: Tensor):
        return GeluBackward.apply(g, *ctx.saved_tensors)


class GeluBackward(Function):
    """h = g f'(x), whose cotangent u gives g-bar = u f'(x) and x-bar = u g f''(x), where with s = c (1 + 3 a x^2)

    f''(x) = (1 - t^2) (s + 3 a c x^2 - x t s^2)
    """

    @staticmethod
    def forward(ctx, g: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(g, x)
        return torch.ops.aten.gelu_backward(g, x, approximate="tanh")

    @staticmethod
    @once_differentiable
    def backward(ctx, u: Tensor):
        g, x = ctx.saved_tensors
        a, c = 0.044715, math.sqrt(2 / math.pi)
        square = x * x
        t = (square * (a * c)).add_(c).mul_(x).tanh_()
        s = (square * (3 * a * c)).add_(c)
        second = square.mul_(3 * a * c).add_(s).sub_(s.square_().mul_(t).mul_(x))
        x_bar = second.mul_(t.square_().neg_().add_(1)).mul_(g).mul_(u)
        return torch.ops.aten.gelu_backward(u, x, approximate="tanh"), x_bar


def gelu(x: Tensor) -> Tensor:
    """transformers' ``gelu_new``."""
    return Gelu.apply(x)
