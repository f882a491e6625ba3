"""Training with one method: its curve, and test accuracy after equal outer steps and after equal time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from betty.configs import EngineConfig
from safetensors.torch import save_file

from reckoning_betty.comparison.plan import Comparison
from reckoning_betty.data.collate import TaskEncoder
from reckoning_betty.evaluation import Answerer, accuracy_table, overall
from reckoning_betty.guards import NonFiniteError
from reckoning_betty.mended_betty import MendedEngine
from reckoning_betty.models.causal_lm import load_model, max_tokens

TIME_FACTOR = 8.0
"""A method that needs so many times the second budget for the first is stopped, and reported where it was."""


@dataclass(slots=True, kw_only=True)
class Curve:
    """What a training run shows; all of it can be written as JSON."""

    points: list[dict[str, float]] = field(default_factory=list)
    """{"step", "seconds", "label_accuracy"} on validation; seconds of training alone."""
    after_steps: dict[str, Any] | None = None
    """{"step", "seconds", "table"} on test, after the first budget."""
    after_seconds: dict[str, Any] | None = None
    """The same after the second."""
    diverged: str = ""
    """The sentence that ended the run, if one did."""


class ComparedEngine(MendedEngine):
    """Trains until both budgets are used up. One engine iteration is one inner step."""

    def __init__(
        self,
        levels: Any,
        answerer: Answerer,
        splits: Any,
        budgets: tuple[int, float | None],
        every: int,
        save: Callable[[int], None],
    ):
        self.levels, self.answerer, self.splits, self.save = levels, answerer, splits, save
        self.steps, self.seconds_allowed = budgets
        self.every, self.curve, self.seconds = every, Curve(), 0.0
        config = EngineConfig(train_iters=10**9, valid_step=10**9, strategy="accelerate")
        super().__init__(levels.problems, config, levels.dependencies, accelerator=Accelerator())

    def train_step(self) -> None:
        start = time.perf_counter()
        super().train_step()
        self.seconds += time.perf_counter() - start

    def iteration_end(self) -> None:
        if self.global_step % self.levels.iterations_per_step:
            return
        step, curve = self.levels.outer.count, self.curve
        allowed = self.seconds_allowed
        if step % self.every == 0:
            curve.points.append({"step": step, "seconds": self.seconds, "label_accuracy": self._validate_now()})
            self.save(step)
        if step == self.steps:
            curve.after_steps = self._tested()
        if allowed is None:  # this run's time is the others' budget
            curve.after_seconds = curve.after_steps
        elif self.seconds >= allowed and curve.after_seconds is None:
            curve.after_seconds = self._tested()
        hopeless = allowed is not None and self.seconds >= TIME_FACTOR * allowed
        if (curve.after_steps and curve.after_seconds) or hopeless:
            self.train_iters = self.global_step

    def finish(self) -> Curve:
        """Whatever budget was not reached is reported where the run ended."""
        self.curve.after_steps = self.curve.after_steps or self._tested()
        self.curve.after_seconds = self.curve.after_seconds or self._tested()
        return self.curve

    def _validate_now(self) -> float:
        tasks = self.splits.validation
        return overall(accuracy_table(tasks, self.answerer.answer(tasks).texts))

    def _tested(self) -> dict[str, Any]:
        tasks = self.splits.test
        table = accuracy_table(tasks, self.answerer.answer(tasks).texts)
        where = {"step": self.levels.outer.count, "seconds": self.seconds}
        return where | {"table": table}


def train(comparison: Comparison, method: str, seed: int, seconds: float | None, points: Path | None = None) -> Curve:
    """Train ``method`` from ``seed`` for ``comparison.steps`` outer steps and for ``seconds``, whichever is longer.

    Args:
        seconds: the second budget; None for the method whose time for the first is everybody's second.
        points: a folder for the weights and rates along the way, or None.
    """
    config = comparison.config(method, seed)
    torch.manual_seed(seed)
    splits = comparison.splits(seed)
    model, tokenizer = load_model(config.model, splits.vocabulary, seed)
    encoder = TaskEncoder(tokenizer, comparison.prompts, max_tokens=max_tokens(model))
    levels = comparison.build_levels("reckoning", config, model, splits.train, encoder)
    answerer = Answerer(
        method="reckoning",
        model=model,
        rates=levels.rates,
        encoder=encoder,
        inner_steps=config.inner.steps,
        optimizer=config.inner.make_optimizer(),
        form=config.inner.fast_weights,
        max_answer_tokens=config.evaluation.max_answer_tokens,
        tasks_per_batch=config.evaluation.tasks_per_batch,
    )

    def save(step: int) -> None:
        if points is not None:
            state = {name: tensor.detach().contiguous() for name, tensor in levels.outer.module.named_parameters()}
            save_file(state, points / f"{step}.safetensors")

    save(0)
    budgets = comparison.steps, seconds
    engine = ComparedEngine(levels, answerer, splits, budgets, comparison.validate_every, save)
    try:
        engine.run()
    except NonFiniteError as error:
        engine.curve.diverged = str(error)
    return engine.finish()
