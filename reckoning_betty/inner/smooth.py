"""Norms and activations with derivatives written out, because autograd's second derivatives of them are slow.

Each gives the values and both derivatives of the operation that it replaces, in a few operations instead of dozens.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class LayerNorm(Function):
    """y = n w + b for each task, over the last dimension: n = r (x - mean x), r = 1 / sqrt(var x + eps).

    x [.., d], the first task's rows first; w and b [B, d]. With P v = v - mean(v) - n mean(n v), dn = r P dx.
    """

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, b: Tensor, eps: float) -> Tensor:
        n, mean, r = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        ctx.save_for_backward(x, w, n, mean, r)
        return torch.addcmul(b.unsqueeze(1), _by_task(n, w), w.unsqueeze(1)).view(x.shape)

    @staticmethod
    def backward(ctx, g: Tensor):
        return *LayerNormBackward.apply(g, *ctx.saved_tensors), None


class LayerNormBackward(Function):
    """h = r P (g w), w-bar = sum(g n) and b-bar = sum(g) over a task's tokens.

    P is symmetric. With u, v, z the cotangents of h, w-bar, b-bar, and p = r P u:

    g-bar = p w + n v + z,   the weight's = sum(p g),
    x-bar = r P (g v) - r (mean(u h) n + mean(n g w) p + mean(n u) h)
    """

    @staticmethod
    def forward(ctx, g: Tensor, x: Tensor, w: Tensor, n: Tensor, mean: Tensor, r: Tensor):
        rows = _by_task(g, w)
        gw = (rows * w.unsqueeze(1)).view(x.shape)
        h = _project(gw, x, mean, r)
        ctx.save_for_backward(g, gw, h, x, w, n, mean, r)
        return h, (rows * _by_task(n, w)).sum(1), rows.sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, u: Tensor, v: Tensor, z: Tensor):
        g, gw, h, x, w, n, mean, r = ctx.saved_tensors
        p = _project(u, x, mean, r)
        rows = _by_task(p, w)
        g_bar = torch.addcmul(z.unsqueeze(1), rows, w.unsqueeze(1)).addcmul_(_by_task(n, w), v.unsqueeze(1))
        w_bar = (rows * _by_task(g, w)).sum(1)
        x_bar = n * (u * h).mean(-1, keepdim=True)
        x_bar.addcmul_(p, (n * gw).mean(-1, keepdim=True)).addcmul_(h, (n * u).mean(-1, keepdim=True)).mul_(-r)
        x_bar.add_(_project((_by_task(g, w) * v.unsqueeze(1)).view(x.shape), x, mean, r))
        return g_bar.view(g.shape), x_bar, w_bar, None, None, None


def _project(v: Tensor, x: Tensor, mean: Tensor, r: Tensor) -> Tensor:
    """r P v."""
    mask = [True, False, False]
    return torch.ops.aten.native_layer_norm_backward(v, x, x.shape[-1:], mean, r, None, None, mask)[0]


def _by_task(x: Tensor, w: Tensor) -> Tensor:
    """[.., d] to [B, n, d]."""
    return x.reshape(w.shape[0], -1, x.shape[-1])


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """``F.layer_norm`` over the last dimension, with each task's own weight and bias [B, d]."""
    return LayerNorm.apply(x, weight, bias, eps)


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
