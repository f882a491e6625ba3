"""Time and memory of an outer step of each method, in training's own number type."""

import statistics

import torch

from reckoning_betty.benchmark.memory import forget_peak, peak_mib, resident_mib
from reckoning_betty.comparison.plan import Comparison
from reckoning_betty.data.collate import TaskEncoder
from reckoning_betty.models.causal_lm import load_model, max_tokens
from reckoning_betty.training.timed_engine import TimedEngine

STEPS = 7
"""Outer steps that are timed, after two that are not."""


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
    engine = TimedEngine(levels, STEPS + 2)
    before = resident_mib()
    forget_peak()
    engine.run()
    return {
        "seconds_per_step": statistics.median(engine.seconds[2:]),
        "peak_memory_mib": peak_mib(),
        "memory_above_start_mib": peak_mib() - before,
    }
