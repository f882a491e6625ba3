"""The exact hypergradient, with Hessian-vector products in forward mode."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from reckoning_betty.errors import require
from reckoning_betty.hypergradients.method import Card, HypergradientMethod

if TYPE_CHECKING:
    from reckoning_betty.config import InnerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOverReverse(HypergradientMethod):
    """``Unrolled``'s recursion, in which H_k u is the derivative of the gradient along u, so that no second-order graph
    is ever built:

        H_k u = d/de grad L(theta_k + e u) at e = 0

    (MixFlow-MG, Kemaev et al., arXiv 2505.00793, section 3; the code is ``inner/swept.py``.)
    """

    name: ClassVar[str] = "forward_over_reverse"
    sweeps_forward: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        order="second",
        needs="forward mode of every operation of the model, and `torch.vmap` over it",
        to_rates="exact",
        memory="N copies of the P parameters",
        cost="2 N gradients and N directional derivatives of one",
        forms="its own (`auto`)",
        optimizers="sgd",
    )

    def differentiates(self, inner_step: int, num_steps: int) -> bool:
        return True

    def refuse_impossible(self, inner: "InnerConfig") -> None:
        wanted = "it sweeps over gradient descent on copies of its own"
        for holds, advice in (
            (inner.fast_weights == "auto", "inner.fast_weights=auto"),
            (inner.optimizer == "sgd", "inner.optimizer=sgd"),
            (not inner.checkpoint, "inner.checkpoint=false"),
            (inner.proximal == 0, "inner.proximal=0"),
        ):
            require(holds, "hypergradient", self.name, f"{wanted}; take {advice}")
