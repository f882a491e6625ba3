"""The outer step that is planned, the same with weights and without: the run's own levels on random tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from betty.configs import EngineConfig
from torch import Tensor
from transformers import PreTrainedConfig

from reckoning_betty.config import RunConfig
from reckoning_betty.mended_betty import MendedEngine
from reckoning_betty.planning.batch import BatchShape, RandomTasks, RandomTokens
from reckoning_betty.planning.decoder import make_decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterStep:
    """Everything that decides about the memory of RECKONING's outer step.

    Args:
        config: of the run.
        decoder: the model's.
        batch: the tokens of a task.
        build_levels: ``problems.methods.build_levels``.
    """

    config: RunConfig
    decoder: PreTrainedConfig
    batch: BatchShape
    build_levels: Callable[..., Any]

    def make_levels(self, device: str = "cpu") -> Any:
        """The levels around a model from random weights, or on the meta device without weights.

        Raises:
            UserError: settings that exclude each other.
        """
        model = make_decoder(self.decoder, device)
        tokens = RandomTokens(self.batch, self.decoder.get_text_config().vocab_size)
        return self.build_levels("reckoning", self.config, model, RandomTasks(), tokens, device)


def run(levels: Any, steps: int, on_step: Callable[[int], None] = lambda step: None) -> None:
    """``steps`` outer steps on Betty's engine; ``on_step`` is called after each with the number done."""
    _Engine(levels, steps, on_step).run()


class _Engine(MendedEngine):
    def __init__(self, levels: Any, steps: int, on_step: Callable[[int], None]):
        self._per_step, self._on_step = levels.iterations_per_step, on_step
        iterations = steps * levels.iterations_per_step
        config = EngineConfig(train_iters=iterations, valid_step=iterations + 1, strategy="accelerate")
        super().__init__(levels.problems, config, levels.dependencies)

    def iteration_end(self) -> None:
        if self.global_step % self._per_step == 0:
            self._on_step(self.global_step // self._per_step)


def with_optimizer_state(levels: Any) -> None:
    """Let the outer optimizer make its state, which is there from the second outer step on."""
    parameters: list[Tensor] = levels.outer.trainable_parameters()
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    levels.outer.optimizer.step()
    for parameter in parameters:
        parameter.grad = None
