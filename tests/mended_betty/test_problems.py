"""Mends 1 to 4 do right, and Betty's own classes still fail as described: config, optimizers, schedules, Accelerate."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from betty.configs import Config, EngineConfig
from betty.engine import Engine
from betty.problems import ImplicitProblem, Problem
from levels import (
    ALONE,
    MendedLine,
    StockLine,
    group_options,
    grouped_sgd,
    line_batch,
    line_problem,
    linear,
    two_levels,
)
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LinearLR, SequentialLR

from reckoning_betty.mended_betty import (
    MendedEngine,
    MendedImplicitProblem,
    MendedProblem,
    ProblemMends,
    UnrolledProblem,
)

# 1. config=None


@pytest.mark.parametrize("kind", [MendedProblem, MendedImplicitProblem, UnrolledProblem])
def test_config_may_be_left_out(kind):
    assert kind("level").config == Config()


@pytest.mark.parametrize("kind", [Problem, ImplicitProblem])
def test_betty_crashes_without_config(kind):
    with pytest.raises(AttributeError, match="precision"):
        kind("level", None)


# 2. parameter groups


@pytest.mark.parametrize("strategy", ["cpu", "default", "accelerate"])
def test_parameter_groups_survive(strategy):
    problem = line_problem(MendedLine)
    MendedEngine([problem], EngineConfig(train_iters=1, strategy=strategy), ALONE)
    assert group_options(problem.optimizer) == [(0.1, 0.5), (0.01, 0)]


def test_betty_flattens_parameter_groups():
    problem = line_problem(StockLine)
    Engine([problem], EngineConfig(train_iters=1, strategy="cpu"), ALONE)
    assert group_options(problem.optimizer) == [(1.0, 0)]


def test_adamw_is_kept():
    problem = line_problem(MendedLine, optimizer=lambda module: torch.optim.AdamW(module.parameters(), lr=0.1))
    given = problem.optimizer
    MendedEngine([problem], EngineConfig(train_iters=1, strategy="cpu"), ALONE).run()
    assert problem.optimizer is given


def test_betty_cannot_rebuild_adamw():
    # since torch's AdamW keeps decoupled_weight_decay among its defaults, but does not take it
    problem = line_problem(StockLine, optimizer=lambda module: torch.optim.AdamW(module.parameters(), lr=0.1))
    with pytest.raises(TypeError, match="decoupled_weight_decay"):
        Engine([problem], EngineConfig(train_iters=1, strategy="cpu"), ALONE)


def test_a_step_is_the_optimizer_s_own():
    expected = linear()
    optimizer = grouped_sgd(expected)
    inputs, targets = line_batch(1)
    nn.functional.mse_loss(expected(inputs), targets).backward()
    optimizer.step()

    moved = {}
    for kind, engine in ((MendedLine, MendedEngine), (StockLine, Engine)):
        problem = line_problem(kind)
        engine([problem], EngineConfig(train_iters=1, strategy="cpu"), ALONE).run()
        moved[kind] = problem.module
    assert torch.equal(moved[MendedLine].weight, expected.weight)
    assert torch.equal(moved[MendedLine].bias, expected.bias)
    assert not torch.allclose(moved[StockLine].weight, expected.weight)


# 3. schedulers


def halving(optimizer: torch.optim.Optimizer) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: 0.5**step)


def warm_up(optimizer: torch.optim.Optimizer) -> SequentialLR:
    parts = [LinearLR(optimizer, start_factor=0.5, total_iters=2), LambdaLR(optimizer, lambda step: 1.0)]
    return SequentialLR(optimizer, parts, milestones=[2])


class MendedLineStockSchedule(MendedLine):
    """What mend 3 replaces, under the other mends."""

    def patch_scheduler(self) -> None:
        super(ProblemMends, self).patch_scheduler()


def scheduler_steps(kind: type, monkeypatch: pytest.MonkeyPatch) -> int:
    problem = line_problem(kind, halving)
    engine = MendedEngine(
        [problem], EngineConfig(train_iters=3, strategy="accelerate"), ALONE, accelerator=Accelerator()
    )
    # what Accelerate's scheduler reads at every step, without starting a second process
    monkeypatch.setitem(PartialState._shared_state, "num_processes", 2)
    monkeypatch.setitem(AcceleratorState._shared_state, "num_processes", 2)
    engine.run()
    return problem.scheduler.state_dict()["last_epoch"]


def test_scheduler_steps_once_per_step_on_two_processes(monkeypatch):
    assert scheduler_steps(MendedLine, monkeypatch) == 3


# PyTorch cannot see, on the scheduler that Betty rebuilds, that the optimizer beneath Accelerate's has stepped
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step\\(\\)` before")
def test_betty_steps_the_scheduler_once_per_process(monkeypatch):
    assert scheduler_steps(MendedLineStockSchedule, monkeypatch) == 6


def test_a_schedule_steps_once_per_outer_step():
    problems, dependencies = two_levels(steps=4)
    MendedEngine(problems, EngineConfig(train_iters=12, strategy="accelerate"), dependencies).run()
    assert problems[1].scheduler.last_epoch == 3


def test_any_scheduler_is_kept():
    problem = line_problem(MendedLine, warm_up)
    given = problem.scheduler
    MendedEngine([problem], EngineConfig(train_iters=3, strategy="cpu"), ALONE).run()
    assert problem.scheduler is given
    assert group_options(problem.optimizer) == [(0.1, 0.5), (0.01, 0)]


def test_betty_cannot_rebuild_a_sequence_of_schedulers():
    with pytest.raises(AttributeError, match="schedulers"):
        Engine([line_problem(StockLine, warm_up)], EngineConfig(train_iters=1, strategy="cpu"), ALONE)


# 4. strategy="accelerate"


def accelerate_engine(*kinds: type, engine: type = MendedEngine, **options) -> Engine:
    problems = []
    for index, kind in enumerate(kinds):
        module = linear(index)
        problems.append(kind(f"line_{index}", Config(), module=module, optimizer=grouped_sgd(module)))
    return engine(problems, EngineConfig(train_iters=2, strategy="accelerate"), ALONE, **options)


def test_engine_and_problems_share_one_accelerator():
    accelerator = Accelerator()
    engine = accelerate_engine(MendedLine, MendedLine, accelerator=accelerator)
    assert [problem.accelerator for problem in engine.problems] == [accelerator, accelerator]
    assert engine.accelerator is accelerator
    assert engine.device == accelerator.device


def test_engine_makes_the_accelerator_that_is_not_given():
    engine = accelerate_engine(MendedLine)
    before = engine.line_0.module.weight.clone()
    engine.run()
    assert isinstance(engine.accelerator, Accelerator)
    assert engine.line_0.accelerator is engine.accelerator
    assert not torch.equal(engine.line_0.module.weight, before)


def test_betty_makes_an_accelerator_per_problem():
    engine = accelerate_engine(StockLine, StockLine)
    accelerators = {id(holder.accelerator) for holder in (engine, *engine.problems)}
    assert len(accelerators) == 3


def test_betty_engine_has_no_accelerator():
    with pytest.raises(AttributeError, match="accelerator"):
        accelerate_engine(StockLine, engine=Engine)
