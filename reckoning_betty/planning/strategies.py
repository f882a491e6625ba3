"""What each way to share an outer step over N processes does to the bill of one of them.

All split the tasks, so that a process has ceil(B / N) of them; that bill is traced (``trace.py``), the buckets in which
gradients travel included. From it the others follow, with M the bytes of the weight matrices, M_t of the trained ones,
G of everything trained and A = 2 G of the outer optimizer's moments:

=================  =====================================================================================================
whole weights      as traced: DistributedDataParallel's memory, though not its class
``shard_weights``  weights, moments and gradients of matrices take 1 / N. At the peak the gradients are still whole:
                   they are cut when the backward pass has gathered them. The largest matrix is there once more, whole,
                   for a product; copies for implicit methods and AdamW start from whole matrices, all of them.
ZeRO-1             moments take 1 / N; DeepSpeed keeps a copy of its part of the weights. While it steps there are
                   the hypergradient (G), the gradient that DeepSpeed makes of it (G), its part twice, and the bucket.
ZeRO-2             the same, but of DeepSpeed's own gradient no more than the part.
FSDP2              as ``shard_weights``.
ZeRO-3             as ``shard_weights``, but all moments take 1 / N, and DeepSpeed has a part of the weights of its own,
                   twice. While it steps there are these, the part of its gradient and the bucket.
=================  =====================================================================================================

Those of one process and ``shard_weights`` are counted on what this library runs, those of ZeRO read off DeepSpeed
0.19's code (``runtime/zero/stage_1_and_2.py``, ``stage3.py``). A further strategy is a function and its line in
``STRATEGIES``.
"""

from collections.abc import Callable
from dataclasses import replace

from reckoning_betty.errors import UserError
from reckoning_betty.planning.bill import Bill, Traced

BUCKET = 50_000_000 * 4
"""Bytes that DeepSpeed reserves for gradients on their way: ``reduce_bucket_size`` of our configs."""


def whole_weights(traced: Traced, devices: int) -> Bill:
    """One process, or several with the whole model each."""
    return traced.bill


def shard_weights(traced: Traced, devices: int) -> Bill:
    """``shard_weights=true``.

    Raises:
        UserError: fast weights or an outer optimizer that take whole matrices.
    """
    traced.refuse_parts()
    if traced.form in ("looped", "swept"):
        raise UserError(f"not with {traced.form} fast weights")
    bill, away = traced.bill, 1 - 1 / devices
    whole = traced.matrices if traced.holds_copies else traced.largest_matrix
    saved = away * (traced.matrices + 2 * traced.trained_matrices)
    return replace(
        bill,
        weights=round(bill.weights - away * traced.matrices),
        optimizer=round(bill.optimizer - away * 2 * traced.trained_matrices),
        gradients=round(bill.gradients - away * traced.trained_matrices),
        fast_weights=bill.fast_weights + (whole if traced.holds_copies else 0),
        peak=round(bill.peak - saved + whole),
    )


def zero1(traced: Traced, devices: int) -> Bill:
    """DeepSpeed's ZeRO-1.

    Raises:
        UserError: an outer optimizer that takes whole matrices.
    """
    return _zero(traced, devices, share_of_gradient=1.0)


def zero2(traced: Traced, devices: int) -> Bill:
    """DeepSpeed's ZeRO-2.

    Raises:
        UserError: as ``zero1``.
    """
    return _zero(traced, devices, share_of_gradient=1 / devices)


def zero3(traced: Traced, devices: int) -> Bill:
    """DeepSpeed's ZeRO-3.

    Raises:
        UserError: as ``shard_weights``.
    """
    bill, part = shard_weights(traced, devices), traced.trained / devices
    optimizer = traced.bill.optimizer / devices + 2 * part
    in_step = bill.weights + bill.gradients + optimizer + part + BUCKET
    return replace(bill, optimizer=round(optimizer), peak=round(max(bill.peak - bill.optimizer + optimizer, in_step)))


def _zero(traced: Traced, devices: int, share_of_gradient: float) -> Bill:
    traced.refuse_parts()
    bill, trained = traced.bill, traced.trained
    part = trained / devices
    optimizer = bill.optimizer / devices + part
    in_step = bill.weights + optimizer + trained + share_of_gradient * trained + 2 * part + BUCKET
    return replace(
        bill,
        optimizer=round(optimizer),
        gradients=round(share_of_gradient * trained),
        peak=round(max(bill.peak - bill.optimizer + optimizer, in_step)),
    )


STRATEGIES: dict[str, Callable[[Traced, int], Bill]] = {
    "ddp": whole_weights,
    "shard_weights": shard_weights,
    "fsdp2": shard_weights,
    "zero1": zero1,
    "zero2": zero2,
    "zero3": zero3,
}


def strategies_for(devices: int) -> dict[str, Callable[[Traced, int], Bill]]:
    """Those that ``devices`` allow; one of them allows one."""
    return STRATEGIES if devices > 1 else {"one process": whole_weights}
