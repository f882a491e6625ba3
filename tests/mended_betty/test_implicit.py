"""Mends 10 and 11 do right, and Betty's own still fail as described: conjugate gradient, the implicit inner level.

Inner J(phi; theta) = (phi - center) A (phi - center) / 2 + strength / 2 |phi - theta|^2 for each of two tasks, outer
|phi - target|^2 / 2, so that theta's implicit gradient is the sum over tasks of strength (A + strength I)^-1 v.
"""

import pytest
import torch
from betty.configs import Config, EngineConfig
from betty.hypergradient import cg, jvp_fn_mapping
from betty.problems import ImplicitProblem
from levels import CENTER, TARGET, Meta
from torch import Tensor, nn

from reckoning_betty.mended_betty import ImplicitInnerProblem, MendedEngine, MendedImplicitProblem, conjugate_gradient

CURVATURES = torch.tensor([[[2.0, 0.5], [0.5, 1.0]], [[0.3, 0.0], [0.0, 9.0]]], dtype=torch.float64)
STRENGTH, RATE, STEPS = 0.7, 0.1, 3


def objective(phi: Tensor, theta: Tensor) -> Tensor:
    """J summed over tasks, for phi [tasks, 2]."""
    away = phi - CENTER
    curved = torch.einsum("bi,bij,bj->", away, CURVATURES[: len(phi)], away)
    return (curved + STRENGTH * (phi - theta).square().sum()) / 2


class PerTask(ImplicitInnerProblem):
    """Gradient descent on J from theta, both tasks in one tensor [2, 2]."""

    def get_batch(self) -> None:
        return None

    def start(self) -> Tensor:
        return self.outer.module.theta.detach().repeat(2, 1).requires_grad_()

    def moved(self, fast: Tensor, batch: None, inner_step: int) -> tuple[Tensor, Tensor]:
        loss = objective(fast, self.outer.module.theta.detach())
        (gradient,) = torch.autograd.grad(loss, fast)
        return fast - RATE * gradient, loss.detach()

    def leaves_of(self, fast: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        leaf = fast.detach().requires_grad_()
        return leaf, leaf, [leaf]

    def objective(self, at_leaves: Tensor, batch: None) -> Tensor:
        return objective(at_leaves, self.outer.module.theta)


class Owned(nn.Module):
    """phi [1, 2] as Betty's own lower level has it: parameters of its own."""

    def __init__(self):
        super().__init__()
        self.phi = nn.Parameter(torch.zeros(1, 2, dtype=torch.float64))


class StockInner(ImplicitProblem):
    """Betty's own lower level, for the first task alone."""

    def get_batch(self) -> None:
        return None

    def training_step(self, batch: None) -> Tensor:
        return objective(self.module.phi, self.outer.module.theta)


class Outer(MendedImplicitProblem):
    def get_batch(self) -> None:
        return None

    def training_step(self, batch: None) -> Tensor:
        self.phi = self.inner.fast if isinstance(self.inner, PerTask) else self.inner.module.phi
        return (self.phi - TARGET).square().sum() / 2

    def grad_callback(self) -> None:
        self.found = self.module.theta.grad.clone()


def levels(kind: type = PerTask, outer_steps: int = 1, iterations: int = 2, alpha: float = 1.0) -> Outer:
    options = Config(type="cg", unroll_steps=STEPS, cg_iterations=iterations, cg_alpha=alpha)
    if kind is PerTask:
        inner = kind("inner", options)
    else:
        owned = Owned()
        inner = kind("inner", options, module=owned, optimizer=torch.optim.SGD(owned.parameters(), lr=RATE))
    meta = Meta()
    outer = Outer("outer", Config(), module=meta, optimizer=torch.optim.SGD([meta.theta], lr=0.1))
    config = EngineConfig(train_iters=outer_steps * STEPS, strategy="accelerate")
    MendedEngine([inner, outer], config, {"l2u": {inner: [outer]}, "u2l": {outer: [inner]}}).run()
    return outer


def implicit_gradient(outer: Outer) -> Tensor:
    phi = outer.phi.detach()
    matrix = CURVATURES[: len(phi)] + STRENGTH * torch.eye(2, dtype=torch.float64)
    return STRENGTH * torch.linalg.solve(matrix, phi - TARGET).sum(0)


# 10. conjugate gradient


@pytest.mark.parametrize("alpha", [1.0, 0.2])
@pytest.mark.parametrize("kind", [PerTask, StockInner])
def test_cg_solves_two_dimensions_in_two_iterations(kind, alpha):
    outer = levels(kind, alpha=alpha)
    torch.testing.assert_close(outer.found, implicit_gradient(outer), rtol=1e-12, atol=1e-12)


def test_cg_stays_where_it_arrived():
    outer = levels(iterations=9)
    torch.testing.assert_close(outer.found, implicit_gradient(outer), rtol=1e-12, atol=1e-12)


def test_betty_s_cg_is_wrong_from_the_second_iteration(monkeypatch):
    ours = [levels(StockInner, iterations=count) for count in (1, 2)]
    monkeypatch.setitem(jvp_fn_mapping, "cg", cg)
    first, second = (levels(StockInner, iterations=count) for count in (1, 2))
    torch.testing.assert_close(first.found, ours[0].found, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(second.found, implicit_gradient(second), rtol=0.1)


def test_betty_s_cg_depends_on_the_alpha_that_cancels(monkeypatch):
    ours = [levels(StockInner, alpha=alpha).found for alpha in (1.0, 0.2)]
    monkeypatch.setitem(jvp_fn_mapping, "cg", cg)
    stock = [levels(StockInner, alpha=alpha).found for alpha in (1.0, 0.2)]
    torch.testing.assert_close(*ours, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(*stock, rtol=0.1)


def test_betty_s_cg_has_one_step_size_for_all_tasks(monkeypatch):
    ours = levels(iterations=1)
    monkeypatch.setitem(jvp_fn_mapping, "cg", cg)
    assert not torch.allclose(levels(iterations=1).found, ours.found, rtol=1e-2)


def test_cg_may_return_its_gradient():
    outer = levels()
    inner = outer.inner
    inner.leaves = [outer.phi]
    inner._at_leaves = outer.phi
    vector = [(outer.phi - TARGET).detach()]
    of_theta, of_alpha = conjugate_gradient(vector, inner, outer, sync=False)
    torch.testing.assert_close(of_theta, outer.found, rtol=1e-12, atol=1e-12)
    assert of_alpha is None  # J does not have it


# 11. the implicit inner level


def test_every_inner_loop_starts_from_the_upper_level(monkeypatch):
    starts = []
    start = PerTask.start

    def watched(self) -> Tensor:
        starts.append(self.outer.module.theta.detach().clone())
        assert self.parameters() == []  # the last loop's leaves are gone
        return start(self)

    monkeypatch.setattr(PerTask, "start", watched)
    outer = levels(outer_steps=3)
    torch.testing.assert_close(outer.found, implicit_gradient(outer), rtol=1e-12, atol=1e-12)
    assert len(starts) == 3
    assert not torch.equal(starts[0], starts[1])


def test_betty_s_lower_level_goes_on_from_where_it_was(monkeypatch):
    starts = []

    def watched(self) -> None:
        starts.append(self.module.phi.detach().clone())

    monkeypatch.setattr(StockInner, "on_inner_loop_start", watched, raising=False)
    levels(StockInner, outer_steps=2)
    assert torch.equal(starts[0], Owned().phi)
    assert not torch.allclose(starts[1], starts[0])


def test_the_leaves_end_with_the_outer_step():
    outer = levels()
    assert len(outer.inner.parameters()) == 1
    assert outer.inner.parameters()[0] is outer.phi
    outer.inner.end_inner_loop()
    assert outer.inner.parameters() == []
