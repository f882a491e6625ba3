"""What the implicit methods share: the inner loop's end stands for the optimum of a proximal inner objective.

    J(phi; theta) = L_CLM(phi; K) + lambda / 2 |phi - theta|^2,   phi*(theta) = argmin over phi

    d phi*/d theta = lambda (H + lambda I)^-1,   H the Hessian of L_CLM at phi*       (iMAML, arXiv 1909.04630, eq. 6)

Without the proximal term the optimum would not depend on theta, and the gradient would be 0. Betty's functions compute
-(d^2 J / d theta d phi) A v, which is lambda A v here, with A an approximation to the inverse of H + lambda I.

The inner rates decide how the optimum is reached and not where it is, so the implicit function theorem gives them no
gradient. They get ``FirstOrder``'s instead (``rates=path``), or none (``rates=frozen``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from betty.configs import Config
from torch import Tensor

from reckoning_betty.distributed.processes import Processes
from reckoning_betty.distributed.sharding import global_norm
from reckoning_betty.errors import require
from reckoning_betty.hypergradients.method import HypergradientMethod

if TYPE_CHECKING:
    from reckoning_betty.config import InnerConfig

FORMS = "batched"
OPTIMIZERS = "all, with `inner.proximal` above 0"
RATES = "through the first-order path, or frozen"
MEMORY = "1 copy of the P parameters; N gradients for the rates, unless frozen"
NEEDS = "an inner loop close to its optimum"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImplicitMethod(HypergradientMethod):
    """A method that Betty computes, at the end of the inner loop."""

    is_implicit: ClassVar[bool] = True

    rates: Literal["path", "frozen"] = "path"
    """Whether the inner rates are trained through the first-order path, or not at all."""

    @property
    def trains_rates(self) -> bool:
        return self.rates == "path"

    def differentiates(self, inner_step: int, num_steps: int) -> bool:
        return False

    def lower_config(self, num_steps: int, start: Sequence[Tensor], num_tasks: int) -> Config:
        return Config(type=self.name, unroll_steps=num_steps, **self.betty_options(start, num_tasks))

    def betty_options(self, start: Sequence[Tensor], num_tasks: int) -> dict[str, Any]:
        """The options that Betty knows the method's by."""
        raise NotImplementedError

    def refuse_impossible(self, inner: "InnerConfig") -> None:
        wanted = "the inner optimum has to depend on the starting weights"
        require(inner.proximal > 0, "hypergradient", self.name, f"{wanted}; take inner.proximal=1, or any above 0")
        form, possible = inner.fast_weights, inner.fast_weights in ("auto", "batched", "lora")
        require(
            possible, "inner.fast_weights", form, f"{self.name} takes whole copies; take inner.fast_weights=batched"
        )
        wanted = f"{self.name} keeps no graph of the inner steps"
        require(not inner.checkpoint, "inner.checkpoint", "true", f"{wanted}; take inner.checkpoint=false")


def difference_radius(start: Sequence[Tensor], num_tasks: int) -> float:
    """How far a central difference moves all tasks' copies together, in the Euclidean norm.

    The cube root of the machine's precision, times their norm: there the errors of rounding (u / r) and of the third
    derivative (r^2) are of one size.
    """
    precision = torch.finfo(start[0].dtype).eps
    norm = global_norm((tensor.detach() for tensor in start), Processes()).item()
    return precision ** (1 / 3) * num_tasks**0.5 * norm
