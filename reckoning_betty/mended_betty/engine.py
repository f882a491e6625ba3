"""Mends 4 to 8: Betty's engine on any device, with validation on every rank, and going on from a saved step."""

import gc
import os
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from betty.configs import EngineConfig
from betty.engine import Engine
from betty.logging.logger_base import get_logger
from betty.misc.early_stopping import EarlyStopping
from betty.problems import Problem
from betty.utils import log_from_loss_dict
from torch.nn.parallel import DistributedDataParallel

from reckoning_betty.mended_betty.unrolled import UnrolledProblem


class MendedEarlyStopping(EarlyStopping):
    """Mend 6. Stops after ``tolerance`` validations without improvement; its state can be saved."""

    def __init__(self, metric: str, tolerance: int, mode: str):
        super().__init__(metric=metric, tolerance=tolerance, mode=mode)
        self.patience = tolerance

    @property
    def reached(self) -> bool:
        """Whether the last validation said to stop."""
        return self.counter >= self.patience

    def state_dict(self) -> dict:
        return {"best_score": self.best_score, "counter": self.counter}

    def load_state_dict(self, state: dict) -> None:
        self.best_score, self.counter = state["best_score"], state["counter"]


class MendedEngine(Engine):
    """Mends 4 to 8. ``accelerator`` is used with ``EngineConfig(strategy="accelerate")``; made if not given."""

    def __init__(
        self,
        problems: list[Problem],
        config: EngineConfig | None = None,
        dependencies: dict | None = None,
        env: Any = None,
        accelerator: Accelerator | None = None,
    ):
        self.accelerator = accelerator
        get_logger().setLevel("WARNING")  # Betty prints its progress on stdout, where ours goes
        super().__init__(problems, config, dependencies, env)

    def parse_config(self) -> None:
        super().parse_config()
        if self.config.early_stopping:
            self.early_stopping = MendedEarlyStopping(
                self.config.early_stopping_metric,
                self.config.early_stopping_tolerance,
                self.config.early_stopping_mode,
            )

    def configure_systems(self) -> dict:
        if self._strategy == "accelerate":
            self.accelerator = self.accelerator or Accelerator()
            self._world_size = self.accelerator.num_processes
            self._rank = self.accelerator.process_index
            self._local_rank = self.accelerator.local_process_index
            self.device = self.accelerator.device
        elif self._strategy == "distributed" and not torch.cuda.is_available():
            dist.init_process_group(backend="gloo")
            self._world_size, self._rank = dist.get_world_size(), dist.get_rank()
            self._local_rank = int(os.environ.get("LOCAL_RANK", self._rank))
            self.device = torch.device("cpu")
        else:
            return super().configure_systems()
        return {
            "strategy": self._strategy,
            "backend": self._backend,
            "world_size": self._world_size,
            "rank": self._rank,
            "local_rank": self._local_rank,
            "accelerator": self.accelerator,
        }

    def do_validation(self) -> bool:
        return self.is_implemented("validation")

    def run(self) -> None:
        """``Engine.run`` from ``global_step`` on, which is 0 unless ``load_state_dict`` moved it."""
        self.train()
        while self.global_step < self.train_iters:
            self.global_step += 1
            self.train_step()
            due = self.global_step % self.valid_step == 0 or self.global_step == self.train_iters
            stop = due and self.do_validation() and self._validate()
            self.iteration_end()
            if stop:
                break
        self.cleanup()

    def cleanup(self) -> None:
        for problem in self.problems:
            if self._strategy == "distributed" and isinstance(problem.module, DistributedDataParallel):
                problem.module = problem.module.module
        gc.collect()  # a wrapper that outlives the process group now and then hangs when it is freed
        super().cleanup()

    def iteration_end(self) -> None:
        """Called when an iteration and its validation are over: the moment at which state can be saved."""

    def _validate(self) -> bool:
        """Run ``validation`` on every rank; True if early stopping says so."""
        self.eval()
        stats = self.validation() or {}
        self.logger.info(f"[Validation] [Global Step {self.global_step}] {log_from_loss_dict(stats)}")
        self.logger.log(stats, tag="validation", step=self.global_step)
        self.train()
        return self.early_stopping is not None and self.early_stopping(stats)

    def state_dict(self) -> dict:
        """Everything a run needs to go on bit for bit: step counters, early stopping, and each problem's state.

        Raises:
            RuntimeError: in the middle of an unrolled inner loop, whose graph cannot be saved.
        """
        for problem in self.problems:
            if isinstance(problem, UnrolledProblem) and not problem._inner_loop_start:
                raise RuntimeError(f"The inner loop of {problem.name} is not over: save between two outer steps.")
        return {
            "global_step": self.global_step,
            "early_stopping": self.early_stopping.state_dict() if self.early_stopping else None,
            "counts": {problem.name: problem.count for problem in self.problems},
            "problems": {problem.name: problem.state_dict() for problem in self.problems if problem.optimizer},
        }

    def load_state_dict(self, state: dict) -> None:
        self.global_step = state["global_step"]
        if self.early_stopping:
            self.early_stopping.load_state_dict(state["early_stopping"])
        for problem in self.problems:
            problem._count = state["counts"][problem.name]
            if problem.name in state["problems"]:
                problem.load_state_dict(state["problems"][problem.name])
