"""What the outer levels share: drawing tasks, the guard on the gradient, clipping, and no dropout."""

from collections.abc import Sequence
from typing import Any

import torch
from betty.configs import Config
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from reckoning_betty.config import TrainingConfig
from reckoning_betty.data.collate import TaskEncoder
from reckoning_betty.data.prefetch import Prefetch
from reckoning_betty.data.task import Task, TaskSource
from reckoning_betty.guards import refuse_non_finite
from reckoning_betty.mended_betty import MendedImplicitProblem
from reckoning_betty.outer_optimizer import outer_optimizer, outer_schedule


class OuterLevel(MendedImplicitProblem):
    """An outer level trained on tasks. ``losses`` holds the terms of the last loss by name, for the log.

    Args:
        name: Betty's name for the level, by which siblings find it.
        module: owns all that the level trains.
        config: Betty's options for the level.
        training: optimizer, schedule and batch.
        rate_learning_rate: outer learning rate of the inner rates, where there are any.
        source: the training tasks; step s of a run draws the same ones however often it was interrupted.
        encoder: tasks into tensors.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        config: Config,
        training: TrainingConfig,
        rate_learning_rate: float,
        source: TaskSource,
        encoder: TaskEncoder,
    ):
        optimizer = outer_optimizer(module, training, rate_learning_rate)
        super().__init__(
            name, config, module=module, optimizer=optimizer, scheduler=outer_schedule(optimizer, training)
        )
        self.training_options = training
        self.source = source
        self.encoder = encoder
        self.tasks: Sequence[Task] = ()
        self._prefetch = Prefetch(self._prepare)
        self.losses: dict[str, Tensor] = {}
        self.gradient_norm = torch.tensor(0.0)

    def draw_tasks(self, step: int) -> Any:
        """Set ``tasks`` to those of outer step ``step`` (0-based), and return what ``encode_tasks`` makes of them."""
        self.tasks, encoded = self._prefetch.get(step)
        return encoded

    def encode_tasks(self, tasks: Sequence[Task]) -> Any:
        """The tensors of an outer step. Runs in another thread, a step ahead, so it must change nothing."""
        raise NotImplementedError

    def _prepare(self, step: int) -> tuple[Sequence[Task], Any]:
        tasks = self.source.draw(step, self.training_options.tasks_per_step)
        return tasks, self.encode_tasks(tasks)

    def grad_callback(self) -> None:
        """Betty calls this between backward and the optimizer's step."""
        named = {name: p.grad for name, p in self.module.named_parameters() if p.grad is not None}
        self.gradient_norm = get_total_norm(named.values())
        if not torch.isfinite(self.gradient_norm):
            refuse_non_finite(f"outer level ({self.name})", self.count, None, named, what="hypergradient")

    def optimizer_step(self, *args, **kwargs) -> None:
        clip = self.training_options.clip_norm
        if clip > 0:
            clip_grads_with_norm_(self.trainable_parameters(), clip, self.gradient_norm)
        super().optimizer_step(*args, **kwargs)

    def train(self) -> None:
        # Betty would set the module to training mode too; it stays in evaluation mode, where dropout is off
        self._training = True

    def eval(self) -> None:
        self._training = False
