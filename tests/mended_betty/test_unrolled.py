"""Mend 9 does right, and Betty's own class still fails as described: the unrolled level."""

import pytest
import torch
from betty.configs import Config, EngineConfig
from betty.engine import Engine
from betty.problems import IterativeProblem
from levels import ALONE, MendedDistance, Meta, Quadratic, StockDistance, closed_form, linear, two_levels
from torch import Tensor

from reckoning_betty.mended_betty import MendedEngine


def hypergradient(steps: int, first_order: bool, outer_kind: type = MendedDistance) -> tuple[Tensor, Tensor]:
    problems, dependencies = two_levels(steps, first_order, outer_kind)
    MendedEngine(problems, EngineConfig(train_iters=steps, strategy="cpu"), dependencies).run()
    return problems[1].hypergradient


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
def test_hypergradient_has_the_closed_form(steps, first_order):
    for found, expected in zip(hypergradient(steps, first_order), closed_form(steps, first_order), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_first_order_is_another_gradient():
    for second, first in zip(hypergradient(4, False), hypergradient(4, True), strict=True):
        assert not torch.allclose(second, first, rtol=0.1)


def test_betty_asks_the_unrolled_level_for_an_implicit_gradient():
    with pytest.raises(RuntimeError, match="cannot be empty"):
        hypergradient(4, first_order=True, outer_kind=StockDistance)


def test_every_inner_loop_starts_from_the_meta_parameters():
    seen = []

    class Watched(Quadratic):
        def moved(self, fast: Tensor, center: Tensor, inner_step: int) -> tuple[Tensor, Tensor]:
            seen.append((inner_step, torch.equal(fast, self.outer.module.theta)))
            return super().moved(fast, center, inner_step)

    module = Meta()
    inner = Watched("inner", Config(unroll_steps=2))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    outer = MendedDistance("outer", Config(first_order=False), module=module, optimizer=optimizer)
    dependencies = {"l2u": {inner: [outer]}, "u2l": {outer: [inner]}}
    MendedEngine([inner, outer], EngineConfig(train_iters=4, strategy="cpu"), dependencies).run()
    assert seen == [(0, True), (1, False), (0, True), (1, False)]
    assert outer.count == 2


def test_rolling_back_an_unrolled_level_is_refused():
    problems, dependencies = two_levels(steps=2)
    engine = MendedEngine(problems, EngineConfig(train_iters=2, strategy="cpu", roll_back=True), dependencies)
    with pytest.raises(NotImplementedError, match="roll_back"):
        engine.run()


def test_accumulating_over_inner_steps_is_refused():
    with pytest.raises(ValueError, match="gradient_accumulation must be 1"):
        Quadratic("inner", Config(unroll_steps=2, gradient_accumulation=2))


class StockUnrolled(IterativeProblem):
    def get_batch(self) -> None:
        return None

    def training_step(self, batch: None) -> Tensor:
        return sum(parameter.square().sum() for parameter in self.params)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_betty_iterative_problem_cannot_start(optimizer):
    module = linear()
    problem = StockUnrolled("inner", Config(), module=module, optimizer=optimizer(module.parameters(), lr=0.1))
    with pytest.raises(KeyError, match="params"):
        Engine([problem], EngineConfig(train_iters=1, strategy="cpu"), ALONE)
