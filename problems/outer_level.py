"""What the outer levels share: drawing tasks, the gradient over all processes and its guard, clipping, no dropout."""

from collections.abc import Sequence
from typing import Any

import torch
from betty.configs import Config
from torch import Tensor, nn

from reckoning_betty.config import TrainingConfig
from reckoning_betty.data.collate import TaskEncoder, of_tasks
from reckoning_betty.data.prefetch import Prefetch
from reckoning_betty.data.task import Task, TaskSource
from reckoning_betty.distributed.gradients import sum_gradients
from reckoning_betty.distributed.processes import Processes, part_of
from reckoning_betty.distributed.sharding import clip, global_norm, load_module, load_optimizer, whole_state
from reckoning_betty.distributed.zero import ZeroOptimizer, uses_zero
from reckoning_betty.guards import refuse_non_finite
from reckoning_betty.mended_betty import MendedImplicitProblem
from reckoning_betty.outer_optimizer import outer_optimizer, outer_schedule


class OuterLevel(MendedImplicitProblem):
    """An outer level trained on tasks, of which each process has its share, in one or several passes.

    An outer step of ``accumulation_steps`` passes has their tasks one pass after another; their gradients are summed.

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
        """This process's, of this pass."""
        self.share = 1.0
        """The part of the outer step's tasks that they are."""
        self.outer_step = 0
        """How many outer steps are done; Betty's ``count`` runs ahead of it, and when depends on the level."""
        self.passes_done = 0
        """Of the outer step under way."""
        self.processes = Processes()
        self._prefetch = Prefetch(self._prepare)
        self.losses: dict[str, Tensor] = {}
        """The terms of this pass's loss by name: means over ``tasks``."""
        self.step_losses: dict[str, Tensor] = {}
        """Their part of the means over all tasks of the outer step, which are the sums of it over processes."""
        self.gradient_norm = torch.tensor(0.0)

    @property
    def is_last_pass(self) -> bool:
        """Whether the outer step ends with the pass under way."""
        return self.passes_done == self.training_options.accumulation_steps - 1

    def draw_tasks(self) -> Any:
        """Set ``tasks`` and ``share`` for the pass that begins; gives what ``encode_tasks`` makes of them."""
        passes = self.training_options.accumulation_steps
        self.tasks, encoded = self._prefetch.get(self.outer_step * passes + self.passes_done)
        self.share = len(self.tasks) / self.training_options.tasks_per_step
        return encoded

    def encode_tasks(self, tasks: Sequence[Task]) -> Any:
        """The tensors of a pass. Runs in another thread, a pass ahead, so it must change nothing."""
        raise NotImplementedError

    def _prepare(self, number: int) -> tuple[Sequence[Task], Any]:
        """Pass ``number`` of the whole run."""
        step, index = divmod(number, self.training_options.accumulation_steps)
        tasks = self.source.draw(step, self.training_options.tasks_per_step)
        tasks = tasks[part_of(len(tasks), index, self.training_options.accumulation_steps)]
        part = self.processes.part(len(tasks))
        # all are encoded, so that every process pads to the same length and builds the same graph
        return tasks[part], of_tasks(self.encode_tasks(tasks), part)

    def backward(self, loss: Tensor, params: list, paths: list, **options: Any) -> None:
        """Add the gradient of the mean over all tasks: the loss is the mean over this pass's and process's."""
        if not self.passes_done:
            self.step_losses = {name: torch.zeros_like(term) for name, term in self.losses.items()}
        for name, term in self.losses.items():
            self.step_losses[name] += term * self.share
        self.add_gradient(loss * self.share, params, paths, **options)
        if self.is_last_pass:
            sum_gradients(self.trainable_parameters(), self.processes)

    def add_gradient(self, loss: Tensor, params: list, paths: list, **options: Any) -> None:
        """``.grad`` += d loss / d theta for each parameter, of this process's tasks."""
        super().backward(loss, params, paths, **options)

    def step_normal(self, global_step: int | None = None) -> None:
        """A pass; with the last of an outer step, all that Betty does at one."""
        if self.is_last_pass:
            return super().step_normal(global_step)
        if self.check_ready():
            loss, _ = self.get_loss(self.get_batch())
            self.backward(
                loss=loss,
                params=self.trainable_parameters(),
                paths=self._paths,
                create_graph=not self._first_order,
                retain_graph=self._retain_graph,
                allow_unused=self._allow_unused,
            )
            self.passes_done += 1
            self.end_pass()
            self.ready = [False] * len(self.ready)

    def end_pass(self) -> None:
        """Free what the gradient of the pass needed."""

    def grad_callback(self) -> None:
        """Betty calls this between backward and the optimizer's step."""
        named = {name: p.grad for name, p in self.module.named_parameters() if p.grad is not None}
        self.gradient_norm = global_norm(named.values(), self.processes)
        if not torch.isfinite(self.gradient_norm):
            refuse_non_finite(f"outer level ({self.name})", self.outer_step + 1, None, named, what="hypergradient")

    def optimizer_step(self, *args, **kwargs) -> None:
        if self.training_options.clip_norm > 0:
            clip(self.trainable_parameters(), self.training_options.clip_norm, self.gradient_norm)
        super().optimizer_step(*args, **kwargs)
        self.passes_done = 0
        self.outer_step += 1
        self.end_pass()

    def patch_optimizer(self) -> None:
        if uses_zero(self.accelerator):
            self.optimizer = ZeroOptimizer(self.optimizer, self.accelerator)
        else:
            super().patch_optimizer()

    def gradient_accumulation_boundary(self) -> bool:
        """Where Betty lets autograd add to ``.grad``, which is where DeepSpeed takes gradients away."""
        return not uses_zero(self.accelerator) and super().gradient_accumulation_boundary()

    def state_dict(self) -> dict[str, Any]:
        """The same however many processes hold it; all of them have to ask for it."""
        return whole_state(super().state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.outer_step = self.count
        load_module(self.module, state["module"])
        if uses_zero(self.accelerator):
            self.optimizer.load_state_dict(state["optimizer"])
        else:
            load_optimizer(self.optimizer, state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])

    def train(self) -> None:
        # Betty would set the module to training mode too; it stays in evaluation mode, where dropout is off
        self._training = True

    def eval(self) -> None:
        self._training = False
