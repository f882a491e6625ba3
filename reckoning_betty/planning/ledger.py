"""Counts the bytes of all tensors while code runs on tensors without values."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten

META = torch.device("meta")


class Ledger(TorchDispatchMode):
    """The bytes of every storage that was made meanwhile and is still referred to, and the most that there ever were.

    Tensors on the meta device have a shape and no values, so that code of any size runs on them in no time. Whatever
    meets such a tensor has no values either. Who asks it for one (a guard against NaN, a step size) is told what a run
    that goes well would say: yes, or 1.

    (torch's own ``MemTracker`` counts the same, but hooks into modules and gradients, which fast weights bypass;
    ``FakeTensorMode`` keeps devices apart, at some twenty times the time.)
    """

    def __init__(self):
        super().__init__()
        self.held = 0
        self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(tensor.is_meta for tensor in tensors):
            if function is aten._local_scalar_dense.default:
                return torch.ones((), dtype=args[0].dtype).item()
            if function is aten.allclose.default:
                return True
            if not all(tensor.is_meta for tensor in tensors):
                args, kwargs = tree_map_only(Tensor, _without_values, (args, kwargs))
            if kwargs.get("device") is not None:
                kwargs = kwargs | {"device": META}
        result = function(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        return result

    def forget_peak(self) -> None:
        """Start the peak anew from what is held now."""
        self.peak = self.held

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()

        def forget(_: weakref.ref) -> None:
            del self._known[key]
            self.held -= size

        self._known[key] = weakref.ref(storage, forget)
        self.held += size
        self.peak = max(self.peak, self.held)


def _without_values(tensor: Tensor) -> Tensor:
    return (
        tensor
        if tensor.is_meta
        else torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
    )
