"""Count the operations of matrix products, as torch's ``FlopCounterMode`` does but in a tenth of its time.

What products are made of inside autograd functions is counted too: every operation passes the dispatcher. Element-wise
operations are not counted; on the other hand, what is computed again, with ``checkpoint``, is.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS: dict[Any, Callable[[Any], tuple]] = {
    torch.ops.aten.mm: lambda args: args[:2],
    torch.ops.aten.bmm: lambda args: args[:2],
    torch.ops.aten.addmm: lambda args: args[1:3],
    torch.ops.aten.baddbmm: lambda args: args[1:3],
    torch.ops.aten.addmm_: lambda args: args[1:3],  # this one and the next are what FlopCounterMode leaves out
    torch.ops.aten.baddbmm_: lambda args: args[1:3],
}
"""The factors among the arguments of each kind of matrix product."""


class OperationCount(TorchDispatchMode):
    """A context in which ``total`` counts multiplications and additions, two for each entry of a product's factors."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        factors = PRODUCTS.get(func._overloadpacket)
        if factors is not None:
            left, right = factors(args)
            self.total += 2 * math.prod(left.shape) * right.shape[-1]
        return func(*args, **(kwargs or {}))
