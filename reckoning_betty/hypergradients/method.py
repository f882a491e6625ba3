"""What a hypergradient method is. Letters as in DESIGN.md section 1; v = dL_outer/dtheta_N, at the end of the loop."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from betty.configs import Config
from torch import Tensor

if TYPE_CHECKING:
    from reckoning_betty.config import InnerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a user chooses by: a row of the README's table. P parameters that move, N inner steps."""

    order: str
    """Derivatives of the inner loss that it takes."""
    needs: str
    """What has to hold for its gradient to mean something."""
    to_rates: str
    """Where the inner rates' gradient comes from."""
    memory: str
    """What is kept for the outer gradient, over N."""
    cost: str
    """Passes of a model over the facts, over N; a gradient is one, a Hessian-vector product two."""
    forms: str
    """Fast weights that it takes."""
    optimizers: str
    """Inner optimizers that it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HypergradientMethod(ABC):
    """A method; its fields are its options, each validated in ``__post_init__``.

    A new one is a file with a subclass, and its line in ``registry.py``. The docstring starts with its equation and
    source.
    """

    name: ClassVar[str]
    card: ClassVar[Card]
    is_implicit: ClassVar[bool] = False
    """Whether it looks at the end of the inner loop alone (``implicit.py``)."""
    sweeps_forward: ClassVar[bool] = False
    """Whether a step's part is a directional derivative (``FastWeightsPlan.forward_over_reverse``)."""

    @property
    def trains_rates(self) -> bool:
        """Whether the inner rates get a gradient at all."""
        return True

    @abstractmethod
    def differentiates(self, inner_step: int, num_steps: int) -> bool:
        """Whether the outer gradient passes through the gradient of step ``inner_step`` (0-based) of ``num_steps``."""

    def lower_config(self, num_steps: int, start: Sequence[Tensor], num_tasks: int) -> Config:
        """Betty's options for the inner level.

        Args:
            num_steps: N.
            start: theta, the parameters that move.
            num_tasks: B.
        """
        return Config(unroll_steps=num_steps)

    def upper_config(self) -> Config:
        """Betty's options for the outer level. Betty calls an implicit gradient of the levels below ``first_order``."""
        return Config(first_order=self.is_implicit, retain_graph=self.is_implicit)

    @abstractmethod
    def refuse_impossible(self, inner: "InnerConfig") -> None:
        """Raise UserError where the method cannot be combined with the inner level's options."""
