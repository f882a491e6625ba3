"""Betty's ``neumann``: a truncated series for the inverse Hessian."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from reckoning_betty.errors import require
from reckoning_betty.hypergradients import implicit
from reckoning_betty.hypergradients.implicit import ImplicitMethod
from reckoning_betty.hypergradients.method import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Neumann(ImplicitMethod):
    """A = alpha sum over i = 0..M of (I - alpha (H + lambda I))^i

    (Lorraine et al., arXiv 1911.02590, equation 8.) It converges where alpha is below 2 / (largest curvature + lambda),
    as gradient descent at that rate does.
    """

    name: ClassVar[str] = "neumann"
    card: ClassVar[Card] = Card(
        order="second, at the end",
        needs=f"{implicit.NEEDS}, and alpha < 2 / (curvature + lambda)",
        to_rates=implicit.RATES,
        memory=f"{implicit.MEMORY}; one second-order graph",
        cost="N gradients and M + 1 Hessian-vector products",
        forms=implicit.FORMS,
        optimizers=implicit.OPTIMIZERS,
    )

    iterations: int = 5
    """M."""
    alpha: float = 0.1
    """Of the series."""

    def __post_init__(self):
        require(self.iterations >= 0, "hypergradient_options.iterations", self.iterations, "it cannot be negative")
        require(self.alpha > 0, "hypergradient_options.alpha", self.alpha, "it must be positive")

    def betty_options(self, start: Sequence[Tensor], num_tasks: int) -> dict[str, Any]:
        return {"neumann_iterations": self.iterations, "neumann_alpha": self.alpha}
