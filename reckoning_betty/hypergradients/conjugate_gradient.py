"""Betty's ``cg``, mended: conjugate gradient for the inverse Hessian."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from reckoning_betty.errors import require
from reckoning_betty.hypergradients import implicit
from reckoning_betty.hypergradients.implicit import ImplicitMethod
from reckoning_betty.hypergradients.method import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class ConjugateGradient(ImplicitMethod):
    """A v = alpha x, with x the M-th iterate of conjugate gradient on

        alpha (H + lambda I) x = v

    (iMAML, Rajeswaran et al., arXiv 1909.04630, algorithm 2.) Every task has its own step sizes. alpha scales the
    system and cancels; it matters to rounding alone. The matrix should be positive definite.
    """

    name: ClassVar[str] = "cg"
    card: ClassVar[Card] = Card(
        order="second, at the end",
        needs=f"{implicit.NEEDS}, and H + lambda I positive",
        to_rates=implicit.RATES,
        memory=f"{implicit.MEMORY}; one second-order graph",
        cost="N gradients and M + 1 Hessian-vector products",
        forms=implicit.FORMS,
        optimizers=implicit.OPTIMIZERS,
    )

    iterations: int = 5
    """M."""
    alpha: float = 1.0
    """Of the system."""

    def __post_init__(self):
        require(self.iterations >= 1, "hypergradient_options.iterations", self.iterations, "it must be at least 1")
        require(self.alpha > 0, "hypergradient_options.alpha", self.alpha, "it must be positive")

    def betty_options(self, start: Sequence[Tensor], num_tasks: int) -> dict[str, Any]:
        return {"cg_iterations": self.iterations, "cg_alpha": self.alpha}
