"""Betty's ``darts``: a central difference, and the identity for the inverse Hessian."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from reckoning_betty.errors import require
from reckoning_betty.hypergradients import implicit
from reckoning_betty.hypergradients.implicit import ImplicitMethod, difference_radius
from reckoning_betty.hypergradients.method import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Darts(ImplicitMethod):
    """-(grad_theta J(phi + e v) - grad_theta J(phi - e v)) / 2e,   e = radius / |v|

    A = I (DARTS, Liu et al., arXiv 1806.09055, equation 7, as Betty reads it). grad_theta J is linear in phi here, so
    the difference is exact at any radius and gives lambda v: the first-order gradient, scaled.
    """

    name: ClassVar[str] = "darts"
    card: ClassVar[Card] = Card(
        order="first",
        needs=f"{implicit.NEEDS}, and a Hessian like the identity",
        to_rates=implicit.RATES,
        memory=implicit.MEMORY,
        cost="N gradients and 2",
        forms=implicit.FORMS,
        optimizers=implicit.OPTIMIZERS,
    )

    radius: float = 0.0
    """Of the difference, over all tasks' copies together; 0 for one that suits the number type."""

    def __post_init__(self):
        require(self.radius >= 0, "hypergradient_options.radius", self.radius, "it cannot be negative")

    def betty_options(self, start: Sequence[Tensor], num_tasks: int) -> dict[str, Any]:
        return {"darts_alpha": self.radius or difference_radius(start, num_tasks)}
