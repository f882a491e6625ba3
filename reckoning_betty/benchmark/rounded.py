"""Products in bfloat16 beside float32 on one device: losses, speed, memory, share of its matrix product rate."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from reckoning_betty.benchmark.engines import CHECKPOINT, outer_loss
from reckoning_betty.benchmark.memory import forget_peak, peak_mib, resident_mib
from reckoning_betty.benchmark.operations import OperationCount
from reckoning_betty.benchmark.sweeps import GPT2_SMALL
from reckoning_betty.benchmark.workload import Shape, Workload, make_workload
from reckoning_betty.inner.fast_weights import plan_fast_weights
from reckoning_betty.inner.precision import Precision, set_precision

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
FULL = replace(GPT2_SMALL, tasks=2, facts=16, tokens=65, rate=0.003)
"""GPT-2 small with 1,024 tokens that are read for each task."""
TINY = Shape(width=16, layers=1, heads=2, vocabulary=40, tasks=2, facts=2, tokens=9, question_tokens=4, inner_steps=2)


def measure(
    shape: Shape, precision: Precision, checkpoint: bool, device: torch.device, steps: int, matmul_rate: float
) -> dict[str, Any]:
    """A row: ``steps`` outer steps of AdamW on the same tasks, after one whose operations are counted.

    Args:
        matmul_rate: GFLOP/s of the device in this precision.

    Returns:
        The shape; medians of seconds and tasks per second; peak memory in MiB, on a GPU of what torch holds and else of
        the process; operations and their rate; the losses of all steps, the first included.
    """
    workload = _on_device(make_workload(shape), device)
    set_precision(workload.model, precision)
    plan = plan_fast_weights(
        workload.model,
        workload.names,
        "auto",
        num_tasks=shape.tasks,
        num_tokens=shape.facts * (shape.tokens - 1),
        num_steps=shape.inner_steps,
        checkpoint=checkpoint,
    )
    optimizer = torch.optim.AdamW([*workload.model.parameters(), *workload.rates.values()], lr=1e-5)
    losses, seconds = [], []

    def outer_step() -> None:
        optimizer.zero_grad()
        loss = outer_loss(workload, plan, workload.facts, workload.questions)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    with OperationCount() as counter:
        outer_step()
    _forget_peak(device)
    for _ in range(steps):
        seconds.append(_seconds(outer_step, device))
    median = statistics.median(seconds)
    rate = counter.total / median / 1e9
    return asdict(shape) | {
        "precision": precision,
        "form": plan.form + (CHECKPOINT if checkpoint else ""),
        "seconds": median,
        "tasks_per_second": shape.tasks / median,
        "peak_memory_mib": _peak_mib(device),
        "flops": counter.total,
        "flop_rate": rate,
        "matmul_rate": matmul_rate,
        "flop_share": rate / matmul_rate,
        "losses": losses,
    }


def matmul_rate(precision: Precision, device: torch.device, size: int, repeats: int = 9) -> float:
    """GFLOP/s of a square matrix product, the median of several."""
    left, right = torch.randn(2, size, size, device=device, dtype=getattr(torch, precision)).unbind()
    seconds = [_seconds(lambda: left @ right, device) for _ in range(repeats + 1)]
    return 2 * size**3 / statistics.median(seconds[1:]) / 1e9


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; the gap is the largest difference of a step's loss from the first row's of the same form."""
    head = (
        "| precision | form | tasks/s | peak MiB | GFLOP/s | share of the product rate | first loss | last loss | gap |"
    )
    lines = [head, "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        first = next(other for other in rows if other["form"] == row["form"])
        gap = max(abs(a - b) for a, b in zip(row["losses"], first["losses"], strict=True))
        lines.append(
            f"| {row['precision']} | {row['form']} | {row['tasks_per_second']:.3g} | {row['peak_memory_mib']:,.0f} | "
            f"{row['flop_rate']:,.1f} | {row['flop_share']:.2g} | {row['losses'][0]:.4f} | {row['losses'][-1]:.4f} | "
            f"{gap:.1e} |"
        )
    return "\n".join(lines) + "\n"


def _on_device(workload: Workload, device: torch.device) -> Workload:
    rates = {name: rate.detach().to(device).requires_grad_() for name, rate in workload.rates.items()}
    tokens = (workload.facts.to(device), workload.questions.to(device))
    return Workload(workload.shape, workload.model.to(device), rates, *tokens)


def _seconds(act: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    act()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        resident_mib()
        forget_peak()


def _peak_mib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_mib()
