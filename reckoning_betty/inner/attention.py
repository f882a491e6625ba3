"""Attention with both derivatives written out: what eager attention computes, in a third of its operations.

Fused attention kernels have no second derivative (DESIGN.md section 5), and autograd's own second derivative of eager
attention is most of a small model's time. Letters: R rows, H heads, T tokens, D head width.

    S = c Q K^T + mask,   P = softmax S,   O = P V
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from reckoning_betty.inner.precision import add_product, multiply, product_dtype

NAME = "reckoning_eager"


class Attention(Function):
    """O [N, T, D] of Q, K and V [N, T, D], N = R H, and a mask to add, [R or 1, 1, T, T] or None.

    With G = dL/dO:  dV = P^T G,  dP = G V^T,  dS = P o (dP - rowsum(P o dP)),  dQ = c dS K,  dK = c dS^T Q
    """

    @staticmethod
    def forward(
        ctx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, rounded: torch.dtype | None
    ) -> Tensor:
        scores = multiply(q, k.mT, rounded).mul_(scale)
        if mask is not None:
            rows = mask.shape[0]
            scores.view(rows, -1, *scores.shape[1:]).add_(mask.to(scores.dtype))
        p = _softmax(scores)
        ctx.scale, ctx.rounded = scale, rounded
        ctx.save_for_backward(q, k, v, p)
        return multiply(p, v, rounded)

    @staticmethod
    def backward(ctx, g: Tensor):
        return *AttentionBackward.apply(g, *ctx.saved_tensors, ctx.scale, ctx.rounded), None, None, None


class AttentionBackward(Function):
    """dQ, dK and dV as functions of G, Q, K, V. With a, b, w the cotangents of dQ, dK, dV, and E that of dS:

    E = c (a K^T + Q b^T),   F = P o (E - rowsum(P o E))                       (F is the cotangent of dP)
    P-bar = E o (dP - rowsum(P o dP)) - dP o rowsum(P o E) + G w^T,   S-bar = P o (P-bar - rowsum(P o P-bar))
    G-bar = P w + F V,   V-bar = F^T G,   Q-bar = c (S-bar K + dS b),   K-bar = c (S-bar^T Q + dS^T a)
    """

    @staticmethod
    def forward(ctx, g: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor, scale: float, rounded: torch.dtype | None):
        dp = multiply(g, v.mT, rounded)
        ds = _softmax_backward(p, dp).mul_(scale)  # c dS
        ctx.scale, ctx.rounded = scale, rounded
        ctx.save_for_backward(g, q, k, v, p, dp, ds)
        return multiply(ds, k, rounded), multiply(ds.mT, q, rounded), multiply(p.mT, g, rounded)

    @staticmethod
    @once_differentiable
    def backward(ctx, a: Tensor, b: Tensor, w: Tensor):
        g, q, k, v, p, dp, ds = ctx.saved_tensors
        rounded = ctx.rounded
        e = add_product(multiply(a, k.mT, rounded), q, b.mT, rounded).mul_(ctx.scale)
        total = (p * e).sum(-1, keepdim=True)
        p_bar = (
            multiply(g, w.mT, rounded).addcmul_(e, dp - (p * dp).sum(-1, keepdim=True)).addcmul_(dp, total, value=-1)
        )
        s_bar = _softmax_backward(p, p_bar).mul_(ctx.scale)
        f = e.sub_(total).mul_(p)
        q_bar = add_product(multiply(s_bar, k, rounded), ds, b, rounded)
        k_bar = add_product(multiply(s_bar.mT, q, rounded), ds.mT, a, rounded)
        g_bar = add_product(multiply(p, w, rounded), f, v, rounded)
        return g_bar, q_bar, k_bar, multiply(f.mT, g, rounded), None, None, None


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    rounded: torch.dtype | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface; what it does not know goes to the model's own eager attention, not rounded."""
    if dropout or any(options.get(name) is not None for name in ("softcap", "s_aux", "head_mask", "position_bias")):
        eager = sys.modules[type(module).__module__].eager_attention_forward
        return eager(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # fewer heads of keys and values, each for several of queries
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # one contiguous batch, copied here once instead of in every product
    flat = (tensor.reshape(-1, *tensor.shape[2:]) for tensor in (query, key, value))
    output = Attention.apply(*flat, attention_mask, scale, rounded).view(*query.shape[:3], value.shape[-1])
    return output.transpose(1, 2), None


NAMES = {None: NAME, torch.bfloat16: f"{NAME}_bfloat16"}
"""By what the factors of its products are rounded to."""
for _rounded, _name in NAMES.items():
    AttentionInterface.register(_name, partial(attention, rounded=_rounded))
    AttentionMaskInterface.register(_name, eager_mask)


@contextmanager
def twice_differentiable_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let an eager model compute its attention here meanwhile."""
    config = model.config.get_text_config()
    before = config._attn_implementation_internal
    if before == "eager":
        config._attn_implementation_internal = NAMES[product_dtype(model)]
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def _softmax(scores: Tensor) -> Tensor:
    if scores.dtype in (torch.float16, torch.bfloat16):
        return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    return scores.softmax(-1)


def _softmax_backward(p: Tensor, dp: Tensor) -> Tensor:
    return torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
