"""Reverse mode through the last inner steps alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from reckoning_betty.errors import require
from reckoning_betty.hypergradients.method import Card, HypergradientMethod

if TYPE_CHECKING:
    from reckoning_betty.config import InnerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncated(HypergradientMethod):
    """As ``Unrolled``, with H_k = 0 for all but the last T steps:

        v_k = v_{k+1} - H_k (alpha_k v_{k+1}) for k >= N - T,   v_k = v_{k+1} before

    so T = N is unrolled and T = 0 is first-order. (Shaban et al., arXiv 1810.10667; in PERK T = 1.)
    """

    name: ClassVar[str] = "truncated"
    card: ClassVar[Card] = Card(
        order="second, in T steps",
        needs="early steps that matter little to the curvature",
        to_rates="exact for the last T + 1 steps, for earlier ones without curvature",
        memory="graphs of T steps and N gradients",
        cost="N gradients and T Hessian-vector products",
        forms="all",
        optimizers="all",
    )

    last_steps: int = 1
    """T."""

    def __post_init__(self):
        require(self.last_steps >= 0, "hypergradient_options.last_steps", self.last_steps, "it cannot be negative")

    def differentiates(self, inner_step: int, num_steps: int) -> bool:
        return inner_step >= num_steps - self.last_steps

    def refuse_impossible(self, inner: "InnerConfig") -> None:
        possible = self.last_steps <= inner.steps
        require(possible, "hypergradient_options.last_steps", self.last_steps, f"there are inner.steps={inner.steps}")
