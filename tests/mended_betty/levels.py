"""The small problems on which Betty and its mends are tried: one level, a line; two levels with a closed form."""

import torch
from betty.configs import Config
from betty.engine import Engine
from betty.problems import ImplicitProblem
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from reckoning_betty.mended_betty import MendedEngine, MendedImplicitProblem, UnrolledProblem

ALONE = {"l2u": {}, "u2l": {}}

# One level: regression of a line, with another batch at every step.


def line_batch(step: int, rank: int = 0) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(4, 2, generator=torch.Generator().manual_seed(100 * rank + step))
    return inputs, inputs.sum(dim=1, keepdim=True)


class Line:
    def get_batch(self) -> tuple[Tensor, Tensor]:
        return tuple(tensor.to(self.device) for tensor in line_batch(self.count, self._rank))

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        return nn.functional.mse_loss(self.module(inputs), targets)


class StockLine(Line, ImplicitProblem):
    pass


class MendedLine(Line, MendedImplicitProblem):
    pass


def linear(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(2, 1)


def grouped_sgd(module: nn.Linear) -> torch.optim.SGD:
    """A weight with decay and a bias with its own learning rate, neither of them the class's default."""
    groups = [{"params": [module.weight], "weight_decay": 0.5, "lr": 0.1}, {"params": [module.bias], "lr": 0.01}]
    return torch.optim.SGD(groups, lr=1.0)


def line_problem(kind: type, schedule=None, optimizer=grouped_sgd) -> ImplicitProblem:
    module = linear()
    made = optimizer(module)
    return kind("line", Config(), module=module, optimizer=made, scheduler=schedule and schedule(made))


def group_options(optimizer: torch.optim.Optimizer) -> list[tuple[float, float]]:
    return [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]


class Recorder:
    """Engine mixin: notes what happens, and validates with the losses it is given, in turn."""

    losses = None

    def note(self, what: str) -> None:
        self.__dict__.setdefault("events", []).append((what, self.global_step))

    def train_step(self) -> None:
        super().train_step()
        self.note("train")

    def validation(self) -> dict[str, float]:
        self.note("validation")
        return {"loss": next(self.losses) if self.losses else 0.0}

    def iteration_end(self) -> None:
        self.note("end")

    def steps(self, what: str) -> list[int]:
        return [step for event, step in self.events if event == what]


class StockRecorder(Recorder, Engine):
    pass


class MendedRecorder(Recorder, MendedEngine):
    pass


# Two levels with a closed form: L_inner(w) = (w - center) A (w - center) / 2 from w_0 = theta, N steps of rate alpha,
# then L_outer = |w_N - target|^2 / 2.

CURVATURE = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
CENTER = torch.tensor([1.0, -1.0], dtype=torch.float64)
TARGET = torch.tensor([0.3, 0.7], dtype=torch.float64)


class Meta(nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([3.0, 2.0], dtype=torch.float64))
        self.alpha = nn.Parameter(torch.tensor(0.2, dtype=torch.float64))


class Quadratic(UnrolledProblem):
    def start(self) -> Tensor:
        return self.outer.module.theta

    def get_batch(self) -> Tensor:
        return CENTER

    def moved(self, fast: Tensor, center: Tensor, inner_step: int) -> tuple[Tensor, Tensor]:
        loss = (fast - center) @ CURVATURE @ (fast - center) / 2
        (gradient,) = torch.autograd.grad(loss, fast, create_graph=not self._first_order)
        return fast - self.outer.module.alpha * gradient, loss


class Distance:
    def get_batch(self) -> Tensor:
        return TARGET

    def training_step(self, target: Tensor) -> Tensor:
        return (self.inner.fast - target).square().sum() / 2

    def grad_callback(self) -> None:
        self.hypergradient = (self.module.theta.grad.clone(), self.module.alpha.grad.clone())


class StockDistance(Distance, ImplicitProblem):
    pass


class MendedDistance(Distance, MendedImplicitProblem):
    pass


def two_levels(steps: int, first_order: bool = False, outer_kind: type = MendedDistance):
    inner, module = Quadratic("inner", Config(unroll_steps=steps)), Meta()
    groups = [{"params": [module.theta], "lr": 0.1}, {"params": [module.alpha], "lr": 0.01}]
    if outer_kind is MendedDistance:
        optimizer = torch.optim.AdamW(groups)
        schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    else:
        optimizer, schedule = torch.optim.SGD(groups), None  # Betty's own class can rebuild no AdamW
    outer = outer_kind("outer", Config(first_order=first_order), module=module, optimizer=optimizer, scheduler=schedule)
    return [inner, outer], {"l2u": {inner: [outer]}, "u2l": {outer: [inner]}}


def closed_form(steps: int, first_order: bool) -> tuple[Tensor, Tensor]:
    """The hypergradient of theta and alpha; without second order, inner gradients count as constants."""
    meta = Meta()
    start, alpha = meta.theta.detach() - CENTER, meta.alpha.detach()
    contraction = torch.eye(2, dtype=torch.float64) - alpha * CURVATURE
    powers = [torch.linalg.matrix_power(contraction, k) for k in range(steps + 1)]
    outer = powers[steps] @ start + CENTER - TARGET
    if first_order:
        return outer, -sum(CURVATURE @ power @ start for power in powers[:steps]) @ outer
    return powers[steps].T @ outer, -steps * (CURVATURE @ powers[steps - 1] @ start) @ outer
