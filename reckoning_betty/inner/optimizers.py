"""Inner optimizers: how a gradient moves fast weights, differentiably. The outer level trains their rates."""

from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

InnerOptimizerName = Literal["sgd", "adamw"]

State = tuple[Tensor, ...]
"""What an optimizer remembers of one parameter from step to step; empty before the first."""


class InnerOptimizer(Protocol):
    """Moves one adapted parameter at a time; values, gradient and each tensor of the state have one shape, any."""

    linear: ClassVar[bool]
    """Whether the update is the rate times the gradient, which the low-rank forms need."""

    def moved(self, values: Tensor, gradient: Tensor, rate: Tensor, state: State, step: int) -> tuple[Tensor, State]:
        """theta_{k+1} and the new state, for inner step ``step`` (0-based) and the scalar rate alpha[l, k]."""

    def describe(self) -> dict[str, str | float]:
        """What ``optimizer_of`` makes it from again, for a checkpoint."""


@dataclass(frozen=True, slots=True)
class GradientDescent:
    """theta_{k+1} = theta_k - alpha g_k."""

    linear: ClassVar[bool] = True

    def moved(self, values: Tensor, gradient: Tensor, rate: Tensor, state: State, step: int) -> tuple[Tensor, State]:
        return values + (-rate) * gradient, state  # the sign goes to the scalar: one pass less over the weights

    def describe(self) -> dict[str, str | float]:
        return {"name": "sgd"}


@dataclass(frozen=True, slots=True)
class AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101), differentiable also where a gradient is zero:

    m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2,   t = k + 1
    theta_{k+1} = theta_k - alpha (m / (1 - b1^t) / sqrt(v / (1 - b2^t) + eps^2) + decay theta_k)

    The usual form adds eps behind the root, whose derivative at v = 0 is infinite: hypergradients become NaN wherever a
    gradient is exactly zero, as all of LoRA's A are while B = 0. Under the root the two agree for |g| far above eps.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    linear: ClassVar[bool] = False

    def moved(self, values: Tensor, gradient: Tensor, rate: Tensor, state: State, step: int) -> tuple[Tensor, State]:
        mean, square = state or (torch.zeros_like(gradient), torch.zeros_like(gradient))
        mean = self.beta1 * mean + (1 - self.beta1) * gradient
        square = self.beta2 * square + (1 - self.beta2) * gradient.square()
        # sqrt(v / c + eps^2) as sqrt(v + c eps^2) / sqrt(c): no temporary for the quotient
        c1, c2 = 1 - self.beta1 ** (step + 1), 1 - self.beta2 ** (step + 1)
        direction = mean / (square + c2 * self.epsilon**2).sqrt() * (c2**0.5 / c1)
        if self.weight_decay:
            direction = direction + self.weight_decay * values
        return values + (-rate) * direction, (mean, square)

    def describe(self) -> dict[str, str | float]:
        return {"name": "adamw"} | asdict(self)


@dataclass(frozen=True, slots=True)
class Proximal:
    """Another optimizer on the inner loss with a proximal term, L + lambda / 2 |theta_k - theta|^2, so that its optimum
    depends on theta (iMAML, Rajeswaran et al., arXiv 1909.04630, equation 3):

    g_k = grad L(theta_k) + lambda (theta_k - theta)

    Its term lambda is differentiated also where the gradient of L is taken as a constant.
    """

    base: InnerOptimizer
    strength: float
    linear: ClassVar[bool] = False

    def moved(self, values: Tensor, gradient: Tensor, rate: Tensor, state: State, step: int) -> tuple[Tensor, State]:
        start, rest = (state[0], state[1:]) if state else (values, ())
        pulled = gradient + self.strength * (values - start)
        moved, rest = self.base.moved(values, pulled, rate, rest, step)
        return moved, (start, *rest)

    def describe(self) -> dict[str, str | float]:
        return self.base.describe() | {"proximal": self.strength}


def optimizer_of(description: dict[str, str | float]) -> InnerOptimizer:
    """The inverse of ``describe``.

    Raises:
        ValueError, TypeError: not a description.
    """
    options = dict(description)
    name = options.pop("name", None)
    if name not in ("sgd", "adamw"):
        raise ValueError(f"optimizer is {name!r}")
    strength = options.pop("proximal", None)
    base = GradientDescent(**options) if name == "sgd" else AdamW(**options)
    return base if strength is None else Proximal(base, strength)
