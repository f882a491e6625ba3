"""What each process of a measurement does: build the levels, make outer steps, and write down time and memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from reckoning_betty.benchmark.memory import forget_peak, peak_mib, resident_mib
from reckoning_betty.config import RunConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.task import Splits
from reckoning_betty.distributed.processes import Processes
from reckoning_betty.distributed.zero import leave_models_whole
from reckoning_betty.models.causal_lm import load_model, max_tokens
from reckoning_betty.training.run_directory import write_json
from reckoning_betty.training.timed_engine import TimedEngine

WARM_UP = 2
"""Outer steps before those that are timed."""

MIB = 2**20


def measure_process(
    config: RunConfig, splits: Splits, prompts: Prompts, build_levels: Callable[..., Any], steps: int, folder: Path
) -> None:
    """Write ``folder/INDEX.json``: ``device``, ``seconds`` of each of ``steps`` outer steps, and memory in MiB.

    Memory is ``peak_memory_mib`` and ``memory_above_start_mib``; the start is before the model is there, with
    everything imported. On a CPU it is what is resident, on a GPU what torch has allocated.
    """
    torch.set_num_threads(config.threads)
    processes, accelerator = Processes(), Accelerator()
    leave_models_whole()
    on_gpu = accelerator.device.type == "cuda"
    before = _start_of_memory(on_gpu)
    model, tokenizer = load_model(config.model, splits.vocabulary, config.seed)
    encoder = TaskEncoder(tokenizer, prompts, accelerator.device, max_tokens(model))
    levels = build_levels(config.method, config, model, splits.train, encoder, accelerator.device)
    engine = TimedEngine(levels, WARM_UP + steps, accelerator)
    engine.run()
    peak = torch.cuda.max_memory_allocated() / MIB if on_gpu else peak_mib()
    found = {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "seconds": engine.seconds[WARM_UP:],
        "peak_memory_mib": peak,
        "memory_above_start_mib": peak - before,
    }
    write_json(folder / f"{processes.index}.json", found)
    accelerator.end_training()


def _start_of_memory(on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / MIB
    before = resident_mib()
    forget_peak()
    return before
