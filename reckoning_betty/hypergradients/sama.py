"""Betty's ``sama``: ``darts`` that knows the inner optimizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from reckoning_betty.errors import require
from reckoning_betty.hypergradients import implicit
from reckoning_betty.hypergradients.implicit import ImplicitMethod, difference_radius
from reckoning_betty.hypergradients.method import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Sama(ImplicitMethod):
    """As ``Darts``, with D v in v's place, D the derivative of the inner optimizer's last step by its gradient:

        -(grad_theta J(phi + e D v) - grad_theta J(phi - e D v)) / 2e,   e = radius / |D v|

    so A = D (SAMA, Choe et al., arXiv 2310.05674, equations 4 and 5). For gradient descent Betty takes D = I, which is
    ``Darts``. For AdamW, elementwise, with m and s before the step, s' after it, and without bias correction,

        D = alpha ((1 - b1) b2 s - b1 (1 - b2) g m) / (sqrt(s') + eps)^3
    """

    name: ClassVar[str] = "sama"
    card: ClassVar[Card] = Card(
        order="first",
        needs=f"{implicit.NEEDS}, and an optimizer whose step is like the inverse Hessian",
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
        return {"sama_adam_alpha": self.radius or difference_radius(start, num_tasks)}
