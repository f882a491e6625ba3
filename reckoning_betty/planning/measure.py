"""The same outer step with weights, in a process of its own, and what it really takes."""

import contextlib
import ctypes
import multiprocessing
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from typing import Any

import torch
import transformers

from reckoning_betty.benchmark.memory import forget_peak, peak_mib, resident_mib
from reckoning_betty.planning.configurations import Configuration
from reckoning_betty.planning.outer_step import run

M_MMAP_THRESHOLD, WHOLE_PAGES = -3, 2**16
"""glibc's option, and a size from which blocks go back to the system when they are freed."""


def measure(configuration: Configuration, build_levels: Callable[..., Any], threads: int) -> dict[str, Any]:
    """Peak resident memory of the outer steps in bytes, above what the process held before the model was made.

    The C library is told to give freed blocks back, so that what is resident is what tensors take; by itself it keeps
    some for blocks to come, and small models then take half as much again or more.

    Returns:
        ``peak`` in bytes, and ``seconds`` of each outer step.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_measure, configuration, build_levels, threads).result()


def _measure(configuration: Configuration, build_levels: Callable[..., Any], threads: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, WHOLE_PAGES)
    run(configuration.tiny_step(build_levels).make_levels(), 2)
    before = resident_mib()
    forget_peak()
    torch.manual_seed(0)
    levels = configuration.step(build_levels).make_levels()
    times = [time.perf_counter()]
    run(levels, configuration.outer_steps, lambda step: times.append(time.perf_counter()))
    seconds = [end - start for start, end in pairwise(times)]
    return {"peak": int((peak_mib() - before) * 2**20), "seconds": seconds}
