"""Mends 1 to 4: a level of Betty's keeps its optimizer, its schedule and the engine's accelerator."""

from typing import Any

import torch
from accelerate import Accelerator
from betty.configs import Config
from betty.problems import ImplicitProblem, Problem
from torch import Tensor


class ProblemMends:
    """Mends 1 to 4, for any of Betty's problem classes; to be named before the class that it mends."""

    def __init__(self, name: str, config: Config | None = None, **options: Any):
        self._engine_accelerator: Accelerator | None = None
        super().__init__(name, config if config is not None else Config(), **options)

    @property
    def accelerator(self) -> Accelerator | None:
        """The engine's accelerator; the one that Betty makes for each problem is dropped."""
        return self._engine_accelerator

    @accelerator.setter
    def accelerator(self, value: Accelerator | None) -> None:
        pass

    def configure_distributed_training(self, dictionary: dict) -> None:
        super().configure_distributed_training(dictionary)
        self._engine_accelerator = dictionary.get("accelerator")

    def patch_module(self) -> None:
        if self._strategy != "accelerate":  # a wrapper would not see the gradients that an inner loop takes
            super().patch_module()

    def patch_optimizer(self) -> None:
        if self._strategy in ("zero", "fsdp"):
            super().patch_optimizer()  # these shard the state, so the optimizer has to be rebuilt
        elif self._strategy == "accelerate" and self.optimizer is not None:
            self.optimizer = self.accelerator.prepare_optimizer(self.optimizer)

    def patch_scheduler(self) -> None:
        if self._strategy in ("zero", "fsdp"):
            super().patch_scheduler()  # it has to follow the rebuilt optimizer


class MendedProblem(ProblemMends, Problem):
    """Betty's ``Problem`` with the mends."""


class MendedImplicitProblem(ProblemMends, ImplicitProblem):
    """Betty's ``ImplicitProblem`` with the mends: a level that owns a module and an optimizer."""

    def backward(self, loss: Tensor, params: list, paths: list, **options: Any) -> None:
        if self.config.first_order:  # Betty asks all levels below for an implicit gradient; unrolled ones have none
            paths = [path for path in paths if getattr(path[1], "has_implicit_gradient", True)]
        super().backward(loss, params, paths, **options)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]
