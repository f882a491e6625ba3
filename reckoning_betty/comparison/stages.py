"""The comparison in units of work, run in other processes, each written down as it ends."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from reckoning_betty.comparison.cost import measure_cost
from reckoning_betty.comparison.fidelity import compare_gradients
from reckoning_betty.comparison.plan import EXACT, Comparison
from reckoning_betty.comparison.training import train
from reckoning_betty.training.run_directory import read_json, write_json


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work.

    Args:
        name: its file's, below ``units/``.
        work: a function that can be pickled, whose result can be written as JSON.
        arguments: its arguments.
    """

    name: str
    work: Callable[..., dict[str, Any]]
    arguments: tuple


@dataclass(slots=True)
class Directory:
    """Where a comparison is written."""

    root: Path

    @property
    def result(self) -> Path:
        return self.root / "comparison.json"

    @property
    def points(self) -> Path:
        """Weights and rates along the exact method's training."""
        return self.root / "points"

    def unit(self, name: str) -> Path:
        return self.root / "units" / f"{name}.json"

    def read(self, name: str) -> dict[str, Any]:
        return read_json(self.unit(name))


def costs(comparison: Comparison) -> list[Unit]:
    """One at a time: their times are compared."""
    return [
        Unit(f"cost-{method}-{steps}", measure_cost, (comparison, method, steps, 1))
        for steps in comparison.inner_steps
        for method in comparison.methods
    ]


def exact_trainings(comparison: Comparison, points: Path) -> list[Unit]:
    """Those of the exact method, on whose way gradients are compared, and whose time is the others' budget."""
    return [
        Unit(
            f"training-{EXACT}-{seed}",
            train_unit,
            (comparison, EXACT, seed, None, points if seed == comparison.seeds[0] else None),
        )
        for seed in comparison.seeds
    ]


def other_trainings(comparison: Comparison, seconds: float) -> list[Unit]:
    """All methods of a seed before the next."""
    return [
        Unit(f"training-{method}-{seed}", train_unit, (comparison, method, seed, seconds, None))
        for seed in comparison.seeds
        for method in comparison.methods
        if method != EXACT
    ]


def fidelities(comparison: Comparison, points: Path) -> list[Unit]:
    """At the first point of training, one after a quarter of the steps, and the last; for every N."""
    return [
        Unit(
            f"fidelity-{method}-{steps}-{point}",
            compare_gradients,
            (comparison, method, steps, points / f"{point}.safetensors"),
        )
        for point in chosen_points(comparison)
        for steps in comparison.inner_steps
        for method in comparison.methods
        if method != EXACT
    ]


def chosen_points(comparison: Comparison) -> list[int]:
    """Outer steps at which gradients are compared."""
    every, steps = comparison.validate_every, comparison.steps
    last = steps - steps % every
    return sorted({0, max(every, last // 4 // every * every), last})


def train_unit(
    comparison: Comparison, method: str, seed: int, seconds: float | None, points: Path | None
) -> dict[str, Any]:
    """A ``Curve`` as JSON."""
    return asdict(train(comparison, method, seed, seconds, points))


def run_units(
    directory: Directory, units: list[Unit], workers: int, on_done: Callable[[Unit], None], fresh: bool = False
) -> None:
    """Run what has no file yet, ``workers`` at a time, in processes with one thread each.

    Args:
        fresh: give every unit a process of its own, so that its peak memory is its own too.

    Raises:
        Whatever a unit raises; those that ended before it are kept.
    """
    waiting: Iterator[Unit] = iter([unit for unit in units if not directory.unit(unit.name).exists()])
    context = multiprocessing.get_context("spawn")
    running: dict[Future, Unit] = {}
    limit = 1 if fresh else None
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare, max_tasks_per_child=limit) as pool:
        try:
            while True:
                while len(running) < workers and (unit := next(waiting, None)) is not None:
                    running[pool.submit(unit.work, *unit.arguments)] = unit
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    unit = running.pop(future)
                    write_json(directory.unit(unit.name), future.result())
                    on_done(unit)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise


def _prepare() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def same_comparison(directory: Directory, comparison: Comparison) -> bool:
    """Whether what is on disk belongs to this comparison; notes it down where nothing is."""
    file, now = directory.root / "settings.json", json.loads(json.dumps(comparison.fingerprint()))
    if file.exists():
        return read_json(file) == now
    write_json(file, now)
    return True
