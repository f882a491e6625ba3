"""Mend 9: a lower level whose inner loop the upper level differentiates."""

from typing import Any

import torch
from betty.configs import Config
from torch import Tensor

from reckoning_betty.mended_betty.problems import MendedProblem


class UnrolledProblem(MendedProblem):
    """Mend 9: a lower level whose updates stay in the autograd graph, so that the upper level differentiates them.

    One engine iteration is one update. A subclass gives ``start`` (the parameters at the beginning of an inner loop)
    and ``moved`` (an update of them, by a gradient that it takes itself); what a set of parameters is, it decides.
    """

    has_implicit_gradient = False

    def __init__(self, name: str, config: Config | None = None, **options: Any):
        options.setdefault("module", torch.nn.Identity())  # Betty wants a module; the upper level owns the real one
        super().__init__(name, config, **options)
        if self.gas > 1:
            raise ValueError("gradient_accumulation must be 1 here: every inner step needs all of its gradient.")
        self.fast: Any = None
        self.inner_step = 0
        self._moved: Any = None

    def start(self) -> Any:
        """The parameters from which the inner loop starts, connected to what the upper level trains."""
        raise NotImplementedError

    def moved(self, fast: Any, batch: Any, inner_step: int) -> tuple[Any, Tensor]:
        """Inner step ``inner_step`` (0-based): new parameters, a differentiable function of ``fast``, and the loss."""
        raise NotImplementedError

    def on_inner_loop_start(self) -> None:
        self.fast, self.inner_step = self.start(), 0

    def training_step(self, batch: Any) -> Tensor:
        self._moved, loss = self.moved(self.fast, batch, self.inner_step)
        return loss

    def backward(self, loss, params, paths, create_graph=True, retain_graph=False, allow_unused=True) -> None:
        pass  # ``moved`` took the gradient

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.fast, self._moved = self._moved, None
        self.inner_step += 1

    def end_inner_loop(self) -> None:
        """Forget the inner loop's graph: the upper level has its gradient."""
        self.fast = None

    def parameters(self) -> list[Tensor]:
        return []  # nothing here is a leaf that an optimizer or a broadcast may touch

    trainable_parameters = parameters

    def zero_grad(self) -> None:
        pass

    def patch_everything(self) -> None:
        pass

    def cache_states(self) -> None:
        raise NotImplementedError("roll_back makes no sense here: every inner loop starts from the upper level")

    recover_states = cache_states
