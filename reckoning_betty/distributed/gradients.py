"""The outer gradient over all processes.

Each process has the gradient of its own tasks' part of the mean over all tasks, so the whole gradient is their sum.
DistributedDataParallel would not do: gradients that an unrolled inner loop takes of parameters bypass its hooks, and
they would stay each process's own, without a warning (DESIGN.md section 5).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from reckoning_betty.distributed.processes import Processes
from reckoning_betty.distributed.sharding import is_sharded

BUCKET_BYTES = 32 * 2**20
"""How much travels at once: enough that the number of messages does not matter, little enough to be held twice."""


def sum_gradients(parameters: Sequence[Tensor], processes: Processes) -> None:
    """Replace each ``.grad`` by its sum over processes; a process without one counts as 0.

    Whether a parameter has a gradient in none of them is agreed on first, so that such parameters keep ``None``.
    Sharded ones have been summed where they were made (``sharding.py``).
    """
    if processes.number == 1:
        return
    parameters = [parameter for parameter in parameters if not is_sharded(parameter)]
    found = torch.tensor([float(parameter.grad is not None) for parameter in parameters])
    somewhere = (processes.sum(found) > 0).tolist()
    reached = [parameter for parameter, has in zip(parameters, somewhere, strict=True) if has]
    for bucket in _buckets(reached):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        total = processes.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        pieces = total.split([gradient.numel() for gradient in gradients])
        for parameter, piece in zip(bucket, pieces, strict=True):
            parameter.grad = piece.view_as(parameter).clone()


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type and device, up to ``BUCKET_BYTES`` together."""
    bucket: list[Tensor] = []
    size = 0
    for parameter in parameters:
        own = parameter.numel() * parameter.element_size()
        alike = not bucket or (parameter.dtype, parameter.device) == (bucket[0].dtype, bucket[0].device)
        if bucket and (not alike or size + own > BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += own
    if bucket:
        yield bucket
