"""Betty's engine with what a long run needs: validation, best checkpoint, saved state, progress, interruption."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from betty.configs import EngineConfig
from betty.problems import Problem
from torch import Tensor
from tqdm import tqdm

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.config import TrainingConfig
from reckoning_betty.data.task import Task
from reckoning_betty.distributed.processes import Processes
from reckoning_betty.errors import UserError
from reckoning_betty.evaluation import Answerer, accuracy_table, overall
from reckoning_betty.mended_betty import MendedEngine
from reckoning_betty.recall import recall_table
from reckoning_betty.training.metrics import MetricLog

LOG_EVERY = 10
"""Outer steps over which the logged losses are averaged."""


class Interrupted(Exception):
    """The user asked to stop; the state is saved."""


class OuterProblem(Protocol):
    """What the engine asks of an outer level, besides being a Betty problem."""

    count: int
    step_losses: dict[str, Tensor]
    gradient_norm: Tensor


@dataclass(slots=True, kw_only=True)
class Job:
    """One method to be trained, and where its results go."""

    method: str
    training: TrainingConfig
    answerer: Answerer
    validation: Sequence[Task]
    iterations_per_step: int
    state_file: Path
    save_every: int
    save_best: Callable[[dict[str, Any]], None]
    """Called by all processes with a note on the validation whenever it is the best so far."""
    log: MetricLog
    stop_asked: Callable[[], bool]
    """Whether the user asked to stop; read after every outer step."""
    seconds: float = field(default=0.0)
    """Training time so far, over all interruptions, without validation."""


class TrainingEngine(MendedEngine):
    """Trains one method. One engine iteration is one inner step, and the last of an inner loop an outer step too."""

    def __init__(
        self, problems: list[Problem], dependencies: dict, outer: OuterProblem, job: Job, accelerator: Accelerator
    ):
        training = job.training
        config = EngineConfig(
            train_iters=training.steps * job.iterations_per_step,
            valid_step=training.validate_every * job.iterations_per_step,
            strategy="accelerate",
            early_stopping=training.patience > 0,
            early_stopping_metric="score",
            early_stopping_mode="max",
            early_stopping_tolerance=training.patience,
        )
        self.outer, self.job = outer, job
        self.best: tuple[float, float] | None = None
        self.done = False
        self.processes = Processes()
        self._window: list[dict[str, float]] = []
        self._bar: tqdm | None = None
        super().__init__(problems, config, dependencies, accelerator=accelerator)

    def train_to_end(self) -> None:
        """Run from the saved state, if there is one, to the last step or early stopping; save the state as done.

        Raises:
            Interrupted: the user asked to stop.
            UserError: the saved state is damaged, or another run's.
            NonFiniteError: a loss or gradient is not finite; the state saved last and the best checkpoint stay.
        """
        self.load_saved_state()
        if self.done:
            return
        if self.early_stopping and self.early_stopping.reached:
            self.train_iters = self.global_step  # stopped by Ctrl-C or a kill right after the last validation
        self._bar = tqdm(
            total=self.job.training.steps,
            initial=self.outer.count,
            desc=self.job.method,
            unit="step",
            mininterval=1,
            disable=not self.processes.is_main,
        )
        with self._bar:
            self.run()
        self.done = True
        self.save_state()

    def train_step(self) -> None:
        start = time.perf_counter()
        super().train_step()
        self.job.seconds += time.perf_counter() - start

    def iteration_end(self) -> None:
        if self.global_step % self.job.iterations_per_step:
            return
        step, job = self.outer.count, self.job
        self._record(step)
        asked = self.processes.any(job.stop_asked())
        if asked or step % job.save_every == 0 or step % job.training.validate_every == 0:
            self.save_state()
        if asked:
            raise Interrupted(f"{job.method}: stopped at outer step {step} of {job.training.steps}")

    def validation(self) -> dict[str, float]:
        """Label accuracy and answer loss on the validation tasks, and exact recall if the answerer recalls.

        The best so far by the score, the mean of accuracy and recall, and then by the loss is kept as the checkpoint.
        """
        job, step = self.job, self.outer.count
        answers = job.answerer.answer(job.validation)
        accuracy, nll = overall(accuracy_table(job.validation, answers.texts)), answers.nll.mean().item()
        stats, score = {"label_accuracy": accuracy, "answer_loss": nll}, accuracy
        if job.answerer.max_recall_tokens:
            stats["exact_recall"] = overall(recall_table(job.validation, answers.recalled), "exact")
            score = (accuracy + stats["exact_recall"]) / 2
        named = {f"validation_{name}": value for name, value in stats.items()}
        job.log.write(job.method, step, named | {"seconds": job.seconds})
        if self.best is None or (score, -nll) > self.best:
            self.best = (score, -nll)
            job.save_best({"outer_step": step, "validation": stats})
        if self._bar is not None:
            self._bar.set_postfix(validation=f"{score:.1%}", best=f"{self.best[0]:.1%}")
        return stats | {"score": score}

    def save_state(self) -> None:
        """Write everything that ``load_saved_state`` needs to go on bit for bit, in one atomic file."""
        own = {"best": self.best, "done": self.done, "seconds": self.job.seconds, "window": self._window}
        state = self.state_dict() | own
        self.processes.on_main(lambda: replace_file(self.job.state_file, lambda new: torch.save(state, new)))

    def load_saved_state(self) -> None:
        file = self.job.state_file
        if file.exists():
            try:
                state = torch.load(file, weights_only=True, map_location="cpu")
                self.load_state_dict(state)
                self.best = None if state["best"] is None else tuple(state["best"])
                self.done, self.job.seconds, self._window = state["done"], state["seconds"], state["window"]
            except Exception:  # torch, pickle and zip each raise their own, of no common class and hard to read
                raise UserError(
                    f"{file} is damaged, or another run's: put the right one back, or delete it to train "
                    f"{self.job.method} anew from its first step with --resume."
                ) from None
        self.job.log.forget_after(self.job.method, self.outer.count)  # all of it where there is no state

    def _record(self, step: int) -> None:
        names = list(self.outer.step_losses)
        own = torch.stack([self.outer.step_losses[name] for name in names])
        values = dict(zip(names, self.processes.sum(own).tolist(), strict=True))
        self._window.append(values | {"gradient_norm": self.outer.gradient_norm.item()})
        self._bar.update()
        if step % LOG_EVERY == 0 or step == self.job.training.steps:
            means = {name: sum(entry[name] for entry in self._window) / len(self._window) for name in self._window[0]}
            self.job.log.write(self.job.method, step, means | {"seconds": self.job.seconds})
            self._bar.set_description(f"{self.job.method} loss {means['answer_loss']:.3f}")
            self._window.clear()
