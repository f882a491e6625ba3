"""Measure the engines of a sweep on its shapes: checked first, then timed in turn, each in a process of its own."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol

import torch

from reckoning_betty.benchmark.engines import CHECKPOINT, OURS, REFERENCE
from reckoning_betty.benchmark.memory import available_mib
from reckoning_betty.benchmark.sketch import Sketch, relative_error
from reckoning_betty.benchmark.sweeps import Sweep
from reckoning_betty.benchmark.worker import Job, Worker
from reckoning_betty.benchmark.workload import Shape
from reckoning_betty.errors import NotMeasured, UserError

LARGEST_ERROR = 1e-3
"""Relative error of a hypergradient above which it is wrong, in float32."""

STEPS_PER_RUN = 20
SECONDS_PER_ENGINE, FEWEST_RUNS = 240.0, 3
"""An engine that has run for that long is not run more often than that."""

Row = dict[str, Any]


class AsksWorker(Protocol):
    """What of a ``Worker`` is needed here."""

    def ask(self, command: str, **options: Any) -> dict[str, Any]: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to measure.

    Args:
        runs: of each engine on each shape.
        memory_limit_mib: what one process may take.
        seconds_per_run: what a run's steps together should last at least, so that the clock does not count.
        start: makes a worker.
        on_progress: told how many checks and runs are done, or not to be done.
    """

    runs: int
    threads: int
    memory_limit_mib: float
    seconds_per_run: float = 1.5
    start: Callable[[Job], AsksWorker] = Worker
    on_progress: Callable[[int], object] = lambda done: None


def memory_limit_mib(asked_gib: float) -> float:
    """What was asked for, or what the machine has to give if that is less."""
    available = available_mib()
    return asked_gib * 1024 if available is None else min(asked_gib * 1024, available)


def work_of(engines: int, runs: int) -> int:
    """How many checks and runs a shape takes, for a progress bar: the reference's check is one, too."""
    return 1 + engines * (1 + runs) if engines else 0


def measure_shape(
    sweep: Sweep, shape: Shape, engines: Iterable[str], earlier: Iterable[Row], matmul_rate: float, options: Options
) -> Iterator[Row]:
    """A row for each of ``engines`` on ``shape``, as soon as it is known.

    Args:
        earlier: rows of the sweep's smaller shapes, from which memory is extended.
        matmul_rate: GFLOP/s of the machine.

    Raises:
        UserError: a hypergradient is wrong.
    """
    engines, earlier = list(engines), list(earlier)
    fitting: list[str] = []
    remaining = work_of(len(engines), options.runs)
    workers: dict[str, AsksWorker] = {}
    found: dict[str, dict[str, Any]] = {}
    try:
        for engine in engines:
            refusal = _does_not_fit(sweep, shape, engine, earlier, options.memory_limit_mib)
            if refusal is not None:
                yield _row(sweep, shape, engine) | {"status": "does not fit"} | refusal
            else:
                fitting.append(engine)
        if not fitting:
            return
        job = Job(REFERENCE, shape, options.threads, options.memory_limit_mib)
        reference = _reference(job, options)
        remaining -= _one_more(options)
        for engine in fitting:
            workers[engine] = options.start(replace(job, engine=engine))
            try:
                found[engine] = workers[engine].ask("check")
            except NotMeasured as error:
                workers.pop(engine).stop()
                yield _not_measured(sweep, shape, engine, error)
                continue
            found[engine]["relative_error"] = refuse_wrong(engine, shape, found[engine]["sketch"], reference)
            remaining -= _one_more(options)
        runs: dict[str, list[dict[str, float]]] = {engine: [] for engine in workers}
        spent = dict.fromkeys(workers, 0.0)
        for done in range(options.runs):
            for engine in list(workers):
                if done >= FEWEST_RUNS and spent[engine] > SECONDS_PER_ENGINE:
                    continue
                start = time.perf_counter()
                try:
                    runs[engine].append(workers[engine].ask("run", steps=_steps(found[engine], runs[engine], options)))
                except NotMeasured as error:
                    workers.pop(engine).stop()
                    yield _not_measured(sweep, shape, engine, error)
                spent[engine] += time.perf_counter() - start
                remaining -= _one_more(options)
        for engine in workers:
            yield _measured(sweep, shape, engine, found[engine], runs[engine], matmul_rate)
    finally:
        for worker in workers.values():
            worker.stop()
        options.on_progress(remaining)


def refuse_wrong(engine: str, shape: Shape, found: Sketch, reference: Sketch) -> float:
    """The relative error of a hypergradient.

    Raises:
        UserError: it is too large, or not a number.
    """
    error = relative_error(found, reference)
    if not error <= LARGEST_ERROR:
        raise UserError(
            f"The hypergradient of {engine} at width {shape.width}, {shape.tasks} tasks and {shape.inner_steps} inner "
            f"steps differs from that of the looped form by {error:.1e}, and {LARGEST_ERROR:g} is allowed, so it is "
            "not timed: leave it out with --engines, and report it."
        )
    return error


def measure_matmul_rate(size: int = 2048, repeats: int = 9) -> float:
    """GFLOP/s of a float32 matrix product, the median of several, with the threads that torch has."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[1:]) / 1e9


def row_key(row: Row) -> tuple:
    """What a row is about: two rows with the same key are two measurements of the same."""
    return row["sweep"], row["engine"], row["checkpoint"], tuple(row[entry.name] for entry in fields(Shape))


def key_of(sweep: Sweep, shape: Shape, engine: str) -> tuple:
    """The ``row_key`` that the engine's row will have."""
    return row_key(_row(sweep, shape, engine))


def _one_more(options: Options) -> int:
    options.on_progress(1)
    return 1


def _reference(job: Job, options: Options) -> Sketch:
    worker = options.start(job)
    try:
        return worker.ask("check")["sketch"]
    except NotMeasured as error:
        raise UserError(
            f"There is nothing to check engines against at width {job.shape.width}: the reference {error.reason} "
            "Choose other --sweeps, or allow more with --memory-limit."
        ) from None
    finally:
        worker.stop()


def _steps(found: dict[str, Any], runs: list[dict[str, float]], options: Options) -> int:
    seconds = min(run["seconds"] for run in runs) if runs else found["seconds"]
    return max(1, min(STEPS_PER_RUN, math.ceil(options.seconds_per_run / seconds)))


def _does_not_fit(sweep: Sweep, shape: Shape, engine: str, earlier: list[Row], limit_mib: float) -> Row | None:
    """What tells, without trying, that the engine would take more than the limit; None if nothing does.

    Peak memory is extended on the line through the engine's two smallest measured shapes, if the sweep has an axis
    along which it grows.
    """
    if sweep.axis is None:
        return None
    this, at, words = _row(sweep, shape, engine), getattr(shape, sweep.axis), sweep.axis.replace("_", " ")
    smaller = [
        row
        for row in earlier
        if all(row[key] == this[key] for key in ("sweep", "engine", "checkpoint")) and row[sweep.axis] < at
    ]
    points = sorted((row[sweep.axis], row["peak_memory_mib"]) for row in smaller if row["status"] == "measured")
    if len(points) >= 2:
        (x0, y0), (x1, y1) = points[:2]
        mib = y0 + (y1 - y0) / (x1 - x0) * (at - x0)
        if mib > limit_mib:
            how = f"extended from the line through {x0} and {x1} {words}"
            return {
                "reason": f"would take {mib / 1024:.1f} GiB, {how}",
                "extrapolated": True,
                "extrapolated_peak_memory_mib": mib,
            }
    refused = [row[sweep.axis] for row in smaller if row["status"] == "does not fit"]
    return {"reason": f"did not fit with {min(refused)} {words} already"} if refused else None


def _row(sweep: Sweep, shape: Shape, engine: str) -> Row:
    """A row in which nothing is measured."""
    name = engine.removesuffix(CHECKPOINT)
    return {
        "sweep": sweep.name,
        "engine": name,
        "form": name if name in OURS else None,
        "checkpoint": engine != name,
        **asdict(shape),
        "status": "",
        "reason": "",
        "tasks_per_second": None,
        "seconds": None,
        "seconds_min": None,
        "seconds_max": None,
        "runs": 0,
        "peak_memory_mib": None,
        "memory_above_model_mib": None,
        "relative_error": None,
        "checked": None,
        "flops": None,
        "flop_rate": None,
        "flop_share": None,
        "extrapolated": False,
        "extrapolated_peak_memory_mib": None,
    }


def _not_measured(sweep: Sweep, shape: Shape, engine: str, error: NotMeasured) -> Row:
    return _row(sweep, shape, engine) | {"status": error.status, "reason": error.reason}


def _measured(
    sweep: Sweep, shape: Shape, engine: str, found: dict[str, Any], runs: list[dict[str, float]], matmul_rate: float
) -> Row:
    seconds = [run["seconds"] for run in runs]
    median = statistics.median(seconds)
    rate = found["flops"] / median / 1e9
    return _row(sweep, shape, engine) | {
        "form": found["form"],
        "status": "measured",
        "reason": found["note"],
        "tasks_per_second": shape.tasks / median,
        "seconds": median,
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "runs": len(runs),
        "peak_memory_mib": max(run["peak_mib"] for run in runs),
        "memory_above_model_mib": max(run["peak_mib"] - run["before_mib"] for run in runs),
        "relative_error": found["relative_error"],
        "checked": found["sketch"].checked,
        "flops": found["flops"],
        "flop_rate": rate,
        "flop_share": rate / matmul_rate,
    }
