"""A bi-level problem whose hypergradient is known: the oracle of every method, and the smallest example of two levels.

Letters: B tasks, d dimensions, N inner steps. Task b has a curvature H_b, a center c_b and a target t_b.

    inner:  J_b(phi; theta) = 1/2 (phi - c_b)^T H_b (phi - c_b) + lambda / 2 |phi - theta|^2,   N steps from phi = theta
    outer:  min over theta, alpha of 1/B sum_b 1/2 |phi_b,N - t_b|^2

It runs through the same engine, methods and proximal inner optimizer as language models do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from betty.configs import EngineConfig
from torch import Tensor, nn

from reckoning_betty.hypergradients.method import HypergradientMethod
from reckoning_betty.inner.optimizers import GradientDescent, Proximal, State
from reckoning_betty.inner.swept import forward_over_reverse
from reckoning_betty.mended_betty import ImplicitInnerProblem, MendedEngine, MendedImplicitProblem, UnrolledProblem


@dataclass(frozen=True, slots=True)
class QuadraticTasks:
    """B tasks.

    Args:
        curvature: H [B, d, d], symmetric.
        center: c [B, d].
        target: t [B, d].
        strength: lambda.
    """

    curvature: Tensor
    center: Tensor
    target: Tensor
    strength: float

    @classmethod
    def random(cls, num_tasks: int, size: int, conditioning: float, strength: float, seed: int = 0) -> "QuadraticTasks":
        """Float64 tasks whose curvatures lie between 1 / ``conditioning`` and 1, along axes of their own."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        axes = torch.linalg.qr(normal(num_tasks, size, size)).Q
        values = conditioning ** -torch.linspace(0, 1, size, dtype=torch.float64)
        return cls(axes @ torch.diag(values) @ axes.mT, normal(num_tasks, size), normal(num_tasks, size), strength)

    def inner_losses(self, phi: Tensor) -> Tensor:
        """[B], without the proximal term, of phi [B, d]."""
        away = phi - self.center
        return torch.einsum("bi,bij,bj->b", away, self.curvature, away) / 2


class QuadraticMeta(nn.Module):
    """theta [d] and alpha [N]."""

    def __init__(self, theta: Tensor, alpha: Tensor):
        super().__init__()
        self.theta = nn.Parameter(theta.clone())
        self.alpha = nn.Parameter(alpha.clone())


@dataclass(frozen=True, slots=True)
class Phi:
    """phi_k [B, d], and what the inner optimizer remembers."""

    values: Tensor
    state: State = ()


class Inner(UnrolledProblem):
    """N steps of gradient descent on J. Reads its sibling ``outer`` for theta and alpha."""

    def __init__(self, tasks: QuadraticTasks, method: HypergradientMethod, meta: QuadraticMeta):
        self.num_steps, num_tasks = len(meta.alpha), len(tasks.center)
        super().__init__("inner", method.lower_config(self.num_steps, [meta.theta], num_tasks))
        self.tasks, self.method = tasks, method
        self.descent = Proximal(GradientDescent(), tasks.strength)

    def start(self) -> Phi:
        return Phi(self.outer.module.theta.repeat(len(self.tasks.center), 1))

    def get_batch(self) -> QuadraticTasks:
        return self.tasks

    def alpha(self, inner_step: int) -> Tensor:
        return self.outer.module.alpha[inner_step]

    def moved(self, fast: Phi, tasks: QuadraticTasks, inner_step: int) -> tuple[Phi, Tensor]:
        if self.method.sweeps_forward:
            return self._swept(fast, tasks, inner_step)
        loss = tasks.inner_losses(fast.values).sum()
        second_order = self.method.differentiates(inner_step, self.num_steps)
        (gradient,) = torch.autograd.grad(loss, fast.values, create_graph=second_order)
        moved = self.descent.moved(fast.values, gradient, self.alpha(inner_step), fast.state, inner_step)
        return Phi(*moved), loss.detach()

    def _swept(self, fast: Phi, tasks: QuadraticTasks, inner_step: int) -> tuple[Phi, Tensor]:
        def losses(copies: dict[str, Tensor], shared: dict[str, Tensor]) -> Tensor:
            phi = copies["phi"]
            return tasks.inner_losses(phi) + tasks.strength / 2 * (phi - shared["theta"]).square().sum(-1)

        theta = {"theta": self.outer.module.theta}
        copies, found = forward_over_reverse([losses], {"phi": fast.values}, {"phi": self.alpha(inner_step)}, theta)
        return Phi(copies["phi"]), found.sum()


class ImplicitInner(ImplicitInnerProblem, Inner):
    """The same steps, whose end stands for the optimum of J."""

    def start(self) -> Phi:
        return Phi(super().start().values.detach().requires_grad_())

    def leaves_of(self, fast: Phi) -> tuple[Phi, Tensor, list[Tensor]]:
        leaf = fast.values.detach().requires_grad_()
        return Phi(leaf + (fast.values - fast.values.detach())), leaf, [leaf]

    def objective(self, at_leaves: Tensor, tasks: QuadraticTasks) -> Tensor:
        distance = (at_leaves - self.outer.module.theta).square().sum()
        return tasks.inner_losses(at_leaves).sum() + tasks.strength / 2 * distance


class Outer(MendedImplicitProblem):
    """Gradient descent on the distance from the targets."""

    def __init__(self, tasks: QuadraticTasks, method: HypergradientMethod, meta: QuadraticMeta, learning_rate: float):
        optimizer = torch.optim.SGD(meta.parameters(), lr=learning_rate)
        super().__init__("outer", method.upper_config(), module=meta, optimizer=optimizer)
        self.tasks = tasks
        self.gradients: dict[str, Tensor | None] = {}
        """The last hypergradient, of ``theta`` [d] and ``alpha`` [N]; None where the method gives none."""
        self.losses: list[float] = []

    def get_batch(self) -> Tensor:
        return self.tasks.target

    def training_step(self, target: Tensor) -> Tensor:
        loss = (self.inner.fast.values - target).square().sum(-1).mean() / 2
        self.losses.append(loss.item())
        return loss

    def grad_callback(self) -> None:
        named = self.module.named_parameters()
        self.gradients = {name: None if p.grad is None else p.grad.clone() for name, p in named}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.inner.end_inner_loop()


def solve(
    tasks: QuadraticTasks,
    method: HypergradientMethod,
    theta: Tensor,
    alpha: Tensor,
    outer_steps: int = 1,
    learning_rate: float = 0.1,
) -> Outer:
    """``outer_steps`` through Betty's engine, from theta [d] and alpha [N]; the outer level holds what came of them."""
    meta = QuadraticMeta(theta, alpha)
    meta.alpha.requires_grad_(method.trains_rates)
    inner = (ImplicitInner if method.is_implicit else Inner)(tasks, method, meta)
    outer = Outer(tasks, method, meta, learning_rate)
    dependencies = {"l2u": {inner: [outer]}, "u2l": {outer: [inner]}}
    iterations = outer_steps * len(alpha)
    MendedEngine([inner, outer], EngineConfig(train_iters=iterations, strategy="accelerate"), dependencies).run()
    return outer


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """What every method should find, by matrix algebra alone. A = H + lambda I, phi* = A^-1 (H c + lambda theta)."""

    tasks: QuadraticTasks
    theta: Tensor
    alpha: Tensor

    @property
    def matrix(self) -> Tensor:
        """A [B, d, d]."""
        return self.tasks.curvature + self.tasks.strength * self._identity

    @property
    def _identity(self) -> Tensor:
        return torch.eye(len(self.theta), dtype=self.theta.dtype)

    def gradients(self) -> list[Tensor]:
        """g_k = A (phi_k - phi*) of every step, [B, d], where phi_{k+1} - phi* = (I - alpha_k A) (phi_k - phi*)."""
        tasks = self.tasks
        pull = torch.einsum("bij,bj->bi", tasks.curvature, tasks.center) + tasks.strength * self.theta
        away = self.theta - torch.linalg.solve(self.matrix, pull)
        found = []
        for alpha in self.alpha:
            found.append(torch.einsum("bij,bj->bi", self.matrix, away))
            away = away - alpha * found[-1]
        return found

    def cotangent(self) -> Tensor:
        """v = dL_outer / dphi_N, [B, d]."""
        end = self.theta - sum(alpha * gradient for alpha, gradient in zip(self.alpha, self.gradients(), strict=True))
        return (end - self.tasks.target) / len(self.tasks.target)

    def through_the_path(self, differentiated: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """theta's and alpha's hypergradients through the steps, of which some are differentiated twice.

        v_k = C_k v_{k+1}, with C_k = I - alpha_k A for these and (1 - alpha_k lambda) I for others; theta also acts
        through the proximal term of each step, alpha_k lambda v_{k+1}.
        """
        strength, v = self.tasks.strength, self.cotangent()
        gradients, of_theta, of_alpha = self.gradients(), torch.zeros_like(v), []
        for k in reversed(range(len(self.alpha))):
            alpha = self.alpha[k]
            of_alpha.append(-(v * gradients[k]).sum())
            of_theta = of_theta + alpha * strength * v
            matrix = self.matrix if differentiated[k] else strength * self._identity
            v = v - alpha * (matrix @ v.unsqueeze(-1)).squeeze(-1)
        return (of_theta + v).sum(0), torch.stack(of_alpha[::-1])

    def implicit(self) -> Tensor:
        """theta's, lambda A^-1 v: that of the optimum, at the end of the steps."""
        return self.tasks.strength * torch.linalg.solve(self.matrix, self.cotangent()).sum(0)

    def scaled_first_order(self) -> Tensor:
        """theta's, lambda v: with the identity for A^-1."""
        return self.tasks.strength * self.cotangent().sum(0)

    def series(self, alpha: float, iterations: int) -> Tensor:
        """theta's, lambda alpha sum over i = 0..iterations of (I - alpha A)^i v."""
        term = total = self.cotangent()
        for _ in range(iterations):
            term = term - alpha * torch.einsum("bij,bj->bi", self.matrix, term)
            total = total + term
        return self.tasks.strength * alpha * total.sum(0)
