"""The exact hypergradient, by reverse mode through all inner steps."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from reckoning_betty.hypergradients.method import Card, HypergradientMethod

if TYPE_CHECKING:
    from reckoning_betty.config import InnerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrolled(HypergradientMethod):
    """With H_k the Hessian of the inner loss at theta_k, from v_N = v down to v_0, which is theta's gradient:

        v_k = v_{k+1} - H_k (alpha_k v_{k+1}),   dL/dalpha[l, k] = -<v_{k+1, l}, g_{k, l}>

    (RECKONING, Chen et al., NeurIPS 2023, section 3; MAML, Finn et al., arXiv 1703.03400, for theta alone.)
    """

    name: ClassVar[str] = "unrolled"
    card: ClassVar[Card] = Card(
        order="second",
        needs="nothing",
        to_rates="exact",
        memory="graphs of N steps; with `inner.checkpoint=true` N states and one graph",
        cost="N gradients and N Hessian-vector products",
        forms="all",
        optimizers="all",
    )

    def differentiates(self, inner_step: int, num_steps: int) -> bool:
        return True

    def refuse_impossible(self, inner: "InnerConfig") -> None:
        pass
