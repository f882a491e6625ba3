"""Betty's engine with a clock: how long each outer step takes."""

import time
from typing import Any

import torch
from accelerate import Accelerator
from betty.configs import EngineConfig

from reckoning_betty.mended_betty import MendedEngine


class TimedEngine(MendedEngine):
    """Makes ``steps`` outer steps; ``seconds`` holds the time of each.

    Args:
        levels: what ``problems.methods.build_levels`` gives.
    """

    def __init__(self, levels: Any, steps: int, accelerator: Accelerator | None = None):
        self.seconds: list[float] = []
        self.iterations_per_step = levels.iterations_per_step
        config = EngineConfig(train_iters=steps * levels.iterations_per_step, strategy="accelerate")
        super().__init__(levels.problems, config, levels.dependencies, accelerator=accelerator)
        self._start = time.perf_counter()

    def iteration_end(self) -> None:
        if self.global_step % self.iterations_per_step == 0:
            if self.device.type == "cuda":
                torch.cuda.synchronize()  # a GPU is told what to do long before it is done
            now = time.perf_counter()
            self.seconds.append(now - self._start)
            self._start = now
