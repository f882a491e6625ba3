"""Time and memory of an outer step of each method, in training's own number type."""

import statistics
import time
from typing import Any

import torch
from betty.configs import EngineConfig

from reckoning_betty.benchmark.memory import forget_peak, peak_mib, resident_mib
from reckoning_betty.comparison.plan import Comparison
from reckoning_betty.data.collate import TaskEncoder
from reckoning_betty.mended_betty import MendedEngine
from reckoning_betty.models.causal_lm import load_model, max_tokens

STEPS = 7
"""Outer steps that are timed, after two that are not."""


class _Timed(MendedEngine):
    def __init__(self, levels: Any, num_steps: int):
        self.seconds: list[float] = []
        self.iterations_per_step = levels.iterations_per_step
        config = EngineConfig(train_iters=(STEPS + 2) * num_steps, strategy="accelerate")
        super().__init__(levels.problems, config, levels.dependencies)
        self._start = time.perf_counter()

    def iteration_end(self) -> None:
        if self.global_step % self.iterations_per_step == 0:
            now = time.perf_counter()
            self.seconds.append(now - self._start)
            self._start = now


def measure_cost(comparison: Comparison, method: str, num_steps: int, threads: int) -> dict[str, float]:
    """Median seconds of an outer step, and peak memory in MiB above what the process holds before the first.

    To be run in a process of its own, or the peak is another's.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    config = comparison.config(method, comparison.seeds[0], num_steps)
    splits = comparison.splits(config.seed)
    model, tokenizer = load_model(config.model, splits.vocabulary, config.seed)
    encoder = TaskEncoder(tokenizer, comparison.prompts, max_tokens=max_tokens(model))
    levels = comparison.build_levels("reckoning", config, model, splits.train, encoder)
    engine = _Timed(levels, num_steps)
    before = resident_mib()
    forget_peak()
    engine.run()
    return {
        "seconds_per_step": statistics.median(engine.seconds[2:]),
        "peak_memory_mib": peak_mib(),
        "memory_above_start_mib": peak_mib() - before,
    }
