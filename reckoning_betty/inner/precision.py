"""Matrix products in bfloat16 between tensors that stay in float32.

A product rounds its factors to bfloat16, multiplies with sums in float32 (as matrix units do), and its result, rounded
once more, goes on in float32. Weights, fast weights, activations, losses and gradients are never held in 16 bits: steps
of 1e-5 would be lost in them (DESIGN.md section 5). Every product of ``products.py`` and ``attention.py`` has its
derivatives written out, so they are rounded in the same way, and no autocast has to be differentiated twice.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16"]


def set_precision(model: nn.Module, precision: Precision) -> None:
    """Let the model's matrix products run in ``precision`` wherever this library runs them.

    Raises:
        ValueError: there is no such precision.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}")
    model.product_precision = precision
    if precision == "bfloat16":  # CUDA may add parts of a product in 16 bits otherwise
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def precision_of(model: nn.Module) -> Precision:
    """What ``set_precision`` said; float32 if nothing."""
    return getattr(model, "product_precision", "float32")


def product_dtype(model: nn.Module) -> torch.dtype | None:
    """What products round to; None for the weights' own type, which those in float64 always have."""
    in_16_bits = precision_of(model) == "bfloat16" and next(model.parameters()).dtype == torch.float32
    return torch.bfloat16 if in_16_bits else None


def multiply(left: Tensor, right: Tensor, dtype: torch.dtype | None) -> Tensor:
    """left @ right, with factors rounded to ``dtype``, in the type of ``left``."""
    if dtype is None:
        return left @ right
    return (left.to(dtype) @ right.to(dtype)).to(left.dtype)


def add_product(target: Tensor, left: Tensor, right: Tensor, dtype: torch.dtype | None, alpha: float = 1.0) -> Tensor:
    """target [B, m, n] += alpha left @ right, in place; the sum is in the target's type."""
    if dtype is None:
        return target.baddbmm_(left, right, alpha=alpha)
    return target.add_(left.to(dtype) @ right.to(dtype), alpha=alpha)
