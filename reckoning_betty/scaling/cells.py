"""What is measured: a strategy on a number of processes, and the launcher config and options that make it."""

import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from reckoning_betty.errors import UserError

ONE_PROCESS = "one process"
"""The name of what all strategies are on one process, and are compared with."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How processes share the work.

    Args:
        launcher: file name in ``engine_configs/accelerate/``. Where there is no GPU its processes are on the CPU.
        shard_weights: what the run config says about them.
        package: that must be installed.
    """

    launcher: str
    shard_weights: bool = False
    package: str | None = None

    @property
    def is_installed(self) -> bool:
        return self.package is None or importlib.util.find_spec(self.package) is not None


STRATEGIES = {
    "ddp": Strategy("multi_gpu.yaml"),
    "sharded": Strategy("multi_gpu.yaml", shard_weights=True),
    "fsdp2": Strategy("fsdp2.yaml"),
    "zero1": Strategy("deepspeed_zero1.yaml", package="deepspeed"),
    "zero2": Strategy("deepspeed_zero2.yaml", package="deepspeed"),
    "zero3": Strategy("deepspeed_zero3.yaml", package="deepspeed"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the table."""

    strategy: str
    processes: int

    @property
    def how(self) -> Strategy:
        return Strategy("one_process.yaml") if self.strategy == ONE_PROCESS else STRATEGIES[self.strategy]

    @property
    def threads(self) -> int:
        """Of each process on a CPU, so that every number of processes has all cores."""
        return max(1, len(os.sched_getaffinity(0)) // self.processes)


def choose_cells(strategies: Sequence[str], processes: Iterable[int], tasks_per_step: int) -> list[Cell]:
    """The cells in the order of the table: fewest processes first.

    Raises:
        UserError: a strategy that is not known, or a number of processes that there cannot be.
    """
    unknown = [name for name in strategies if name not in STRATEGIES]
    if unknown or not strategies:
        given = ",".join(unknown or strategies)
        raise UserError(f"--strategies {given} is not known; choose from {', '.join(STRATEGIES)}.")
    numbers = sorted(set(processes))
    if not numbers or numbers[0] < 1:
        raise UserError("--processes must be numbers of 1 or more; give --processes 1,2.")
    most, of = (torch.cuda.device_count(), "GPUs") if torch.cuda.is_available() else (tasks_per_step, "tasks per step")
    if numbers[-1] > min(most, tasks_per_step):
        most, of = (tasks_per_step, "tasks per step") if numbers[-1] > tasks_per_step else (most, of)
        raise UserError(f"--processes {numbers[-1]} is more than the {most} {of} that there are; give {most} at most.")
    cells = [Cell(ONE_PROCESS, 1)] if numbers[0] == 1 else []
    return cells + [Cell(name, number) for number in numbers if number > 1 for name in dict.fromkeys(strategies)]
