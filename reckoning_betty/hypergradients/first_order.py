"""Inner gradients as constants."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from reckoning_betty.hypergradients.method import Card, HypergradientMethod

if TYPE_CHECKING:
    from reckoning_betty.config import InnerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstOrder(HypergradientMethod):
    """As ``Unrolled``, with H_k = 0: theta's gradient is v, and the rates' is

        dL/dalpha[l, k] = -<v_l, g_{k, l}>

    (FOMAML; Nichol et al., arXiv 1803.02999, section 5.)
    """

    name: ClassVar[str] = "first_order"
    card: ClassVar[Card] = Card(
        order="first",
        needs="small steps: the error grows with the rates and the curvature",
        to_rates="through the path, without curvature",
        memory="N gradients",
        cost="N gradients",
        forms="all",
        optimizers="all",
    )

    def differentiates(self, inner_step: int, num_steps: int) -> bool:
        return False

    def refuse_impossible(self, inner: "InnerConfig") -> None:
        pass
