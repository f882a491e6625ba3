"""A process of its own for one engine on one workload, idle unless it is asked for a step.

It holds no model between two requests, so that many idle workers fit beside the one that is measured.
"""

import contextlib
import gc
import multiprocessing
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
import transformers

from reckoning_betty.benchmark.engines import CHECKPOINT, OURS, REFERENCE, Prepared, prepare_ours, prepare_reference
from reckoning_betty.benchmark.memory import forget_peak, limit_memory, peak_mib, resident_mib
from reckoning_betty.benchmark.operations import OperationCount
from reckoning_betty.benchmark.peers import PEERS, MissingPeerError
from reckoning_betty.benchmark.sketch import sketch
from reckoning_betty.benchmark.workload import Shape, Workload, make_workload
from reckoning_betty.errors import NotMeasured

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "cannot allocate memory")


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is for: an engine's name, with ``+checkpoint`` or without, and the rest of its circumstances."""

    engine: str
    shape: Shape
    threads: int
    memory_limit_mib: float


def prepare(engine: str, workload: Workload) -> Prepared:
    """The engine of that name."""
    form = engine.removesuffix(CHECKPOINT)
    if engine == REFERENCE:
        return prepare_reference(workload)
    if form in OURS:
        return prepare_ours(workload, form, checkpoint=engine != form)
    return PEERS[engine](workload)


def check(job: Job) -> dict[str, Any]:
    """One step, looked at: its hypergradient in short, its operations, how long it took, and the engine's form."""
    workload = make_workload(job.shape)
    prepared = prepare(job.engine, workload)
    with OperationCount() as counter:
        start = time.perf_counter()
        prepared.step()
        seconds = time.perf_counter() - start
    return {
        "sketch": sketch(workload.model.named_parameters(), prepared.rates),
        "flops": counter.total,
        "seconds": seconds,
        "form": prepared.form,
        "note": prepared.note,
    }


def run(job: Job, steps: int) -> dict[str, float]:
    """Seconds per step, over ``steps`` of them, and the memory that they took.

    If there are several, one more goes before them, as in training, where memory comes from the step before.
    """
    workload = make_workload(job.shape)
    prepared = prepare(job.engine, workload)
    leaves = [*workload.model.parameters(), *prepared.rates.values()]
    before = resident_mib()
    forget_peak()
    seconds = 0.0
    for number in range(steps if steps == 1 else steps + 1):
        for leaf in leaves:
            leaf.grad = None
        start = time.perf_counter()
        prepared.step()
        if number > 0 or steps == 1:
            seconds += time.perf_counter() - start
    return {"seconds": seconds / steps, "peak_mib": peak_mib(), "before_mib": before}


class Worker:
    """The near end of a worker process. Its processes come from a server that has imported everything already."""

    def __init__(self, job: Job):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(job, far_end), daemon=True)
        self._process.start()
        far_end.close()

    def ask(self, command: str, **options: Any) -> dict[str, Any]:
        """``check`` or ``run`` in the worker.

        Raises:
            NotMeasured: it could not, or the process ended.
        """
        try:
            self._pipe.send((command, options))
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            if code == -signal.SIGKILL:
                raise NotMeasured("does not fit", "its process was killed, most likely for want of memory.") from None
            raise NotMeasured("failed", f"its process ended with exit code {code}.") from None
        if isinstance(answer, tuple):
            raise NotMeasured(*answer)
        return answer

    def stop(self) -> None:
        """End the process, at once if it is at work."""
        self._pipe.close()
        self._process.join(timeout=1)
        self._process.kill()
        self._process.join()


def _serve(job: Job, pipe: Connection) -> None:
    gc.freeze()  # what was imported: collecting would go through it each time, and copy it from the server
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which closes the pipe
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)
    limit_memory(job.memory_limit_mib)
    sys.stdout = sys.stderr
    commands: dict[str, Callable[..., dict[str, Any]]] = {"check": check, "run": run}
    while True:
        try:
            command, options = pipe.recv()
        except EOFError:
            return
        try:
            answer: Any = commands[command](job, **options)
        except Exception as error:  # an engine is another's code, and may raise anything
            answer = (_status_of(error), _sentence_of(error, job))
        resident_mib()  # gives everything back
        with contextlib.suppress(ConnectionError):  # stopped meanwhile
            pipe.send(answer)


def _status_of(error: Exception) -> str:
    if isinstance(error, MissingPeerError):
        return "not installed"
    memory = isinstance(error, MemoryError) or any(part in str(error).lower() for part in OUT_OF_MEMORY)
    return "does not fit" if memory else "failed"


def _sentence_of(error: Exception, job: Job) -> str:
    if _status_of(error) == "does not fit":
        return f"needs more than the {job.memory_limit_mib / 1024:.1f} GiB that a process may take."
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, MissingPeerError) else f"{type(error).__name__}: {text}"
