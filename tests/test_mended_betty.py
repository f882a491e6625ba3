"""For every mend of ``mended_betty``: the mended class does right, and Betty's own class still fails as described."""

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from betty.configs import Config, EngineConfig
from betty.engine import Engine
from betty.misc.early_stopping import EarlyStopping
from betty.problems import ImplicitProblem, IterativeProblem, Problem
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LinearLR, SequentialLR

from reckoning_betty.mended_betty import (
    MendedEarlyStopping,
    MendedEngine,
    MendedImplicitProblem,
    MendedProblem,
    ProblemMends,
    UnrolledProblem,
)

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


# 5. strategy="distributed" without CUDA: two processes run this file, see the end of it


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> list[dict]:
    folder, repository = tmp_path_factory.mktemp("two_processes"), Path(__file__).resolve().parents[1]
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(repository),
        "WORLD_SIZE": "2",
    }
    second_port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder / f"{rank}.json"), second_port],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=repository,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = []
    try:
        for process in processes:
            errors.append(process.communicate(timeout=100)[1])
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stderr.close()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def two_process_engine(kind: type, engine: type) -> tuple[nn.Linear, Engine]:
    module = linear(seed=int(os.environ["RANK"]))  # ranks start apart, so that sharing the start shows
    problem = kind("line", Config(), module=module, optimizer=torch.optim.SGD(module.parameters(), lr=0.1))
    config = EngineConfig(train_iters=3, valid_step=3, strategy="distributed", backend="gloo")
    return module, engine([problem], config, ALONE)


def mended_process() -> dict:
    module, engine = two_process_engine(MendedLine, MendedRecorder)
    identity = {"rank": engine._rank, "world_size": engine._world_size, "device": str(engine.device)}
    engine.run()
    return identity | {
        "weights": [parameter.tolist() for parameter in module.parameters()],
        "validations": engine.steps("validation"),
        "unwrapped": engine.line.module is module,
    }


def stock_process() -> dict:
    try:
        two_process_engine(StockLine, Engine)
    except Exception as error:
        return {"stock_error": type(error).__name__}
    finally:
        torch.distributed.destroy_process_group()
    return {"stock_error": None}


def test_distributed_trains_on_cpu(two_processes):
    expected = linear(seed=0)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    for step in (1, 2, 3):
        batches = [line_batch(step, rank) for rank in range(2)]
        inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        optimizer.zero_grad()
        nn.functional.mse_loss(expected(inputs), targets).backward()
        optimizer.step()
    assert two_processes[0]["weights"] == two_processes[1]["weights"]
    for parameter, values in zip(expected.parameters(), two_processes[0]["weights"], strict=True):
        torch.testing.assert_close(torch.tensor(values), parameter.detach())


def test_distributed_knows_its_ranks_on_cpu(two_processes):
    assert [(result["rank"], result["world_size"], result["device"]) for result in two_processes] == [
        (0, 2, "cpu"),
        (1, 2, "cpu"),
    ]


def test_all_processes_validate(two_processes):
    assert [result["validations"] for result in two_processes] == [[3], [3]]


def test_no_wrapper_outlives_the_process_group(two_processes):
    # freed after it, DistributedDataParallel over gloo hung in one run of three
    assert [result["unwrapped"] for result in two_processes] == [True, True]


def test_betty_distributed_divides_by_zero_on_cpu(two_processes):
    assert [result["stock_error"] for result in two_processes] == ["ZeroDivisionError", "ZeroDivisionError"]


# 6. early stopping


@pytest.mark.parametrize(("mode", "scores"), [("min", [3.0, 2.0, 2.5, 2.0, 1.0]), ("max", [1.0, 2.0, 1.5, 2.0, 3.0])])
def test_early_stopping_waits_for_its_tolerance(mode, scores):
    stopping = MendedEarlyStopping("loss", 2, mode)
    assert [stopping({"loss": score}) for score in scores] == [False, False, False, True, False]


def test_early_stopping_state_goes_on():
    stopping, restored = (MendedEarlyStopping("loss", 2, "min") for _ in range(2))
    for score in (1.0, 2.0):
        stopping({"loss": score})
    restored.load_state_dict(stopping.state_dict())
    assert restored({"loss": 1.5})
    assert not MendedEarlyStopping("loss", 2, "min")({"loss": 1.5})


def early_stopping_config() -> EngineConfig:
    return EngineConfig(train_iters=9, valid_step=1, strategy="cpu", early_stopping=True, early_stopping_tolerance=2)


def test_engine_stops_early():
    engine = MendedRecorder([line_problem(MendedLine)], early_stopping_config(), ALONE)
    engine.losses = iter([3.0, 2.0, 2.0, 2.0])
    engine.run()
    assert engine.global_step == 4
    assert engine.events[-1] == ("end", 4)  # the state after the stop can be saved


def test_betty_early_stopping_has_no_patience():
    with pytest.raises(AttributeError, match="patience"):
        EarlyStopping("loss", 2, "min")({"loss": 1.0})
    engine = StockRecorder([line_problem(StockLine)], early_stopping_config(), ALONE)
    with pytest.raises(AttributeError, match="patience"):
        engine.run()


# 7. validation on every rank


def second_rank(kind: type, problem: type) -> list[tuple[str, int]]:
    engine = kind([line_problem(problem)], EngineConfig(train_iters=2, valid_step=2, strategy="cpu"), ALONE)
    engine._rank = 1
    engine.run()
    return engine.steps("validation")


def test_every_rank_validates():
    assert second_rank(MendedRecorder, MendedLine) == [2]


def test_betty_validates_on_rank_0_only():
    assert second_rank(StockRecorder, StockLine) == []


def test_no_validation_is_asked_of_an_engine_without_one():
    engine = MendedEngine([line_problem(MendedLine)], EngineConfig(train_iters=2, valid_step=1, strategy="cpu"), ALONE)
    engine.run()
    assert engine.global_step == 2


# 8. going on from a saved step


class Saver(MendedRecorder):
    """Saves its state once, at the end of iteration ``save_at``."""

    def iteration_end(self) -> None:
        super().iteration_end()
        if self.global_step == getattr(self, "save_at", None):
            self.saved = io.BytesIO()
            torch.save(self.state_dict(), self.saved)


def two_level_engine(iterations: int) -> Saver:
    problems, dependencies = two_levels(steps=3)
    config = EngineConfig(
        train_iters=iterations, valid_step=6, strategy="cpu", early_stopping=True, early_stopping_tolerance=9
    )
    return Saver(problems, config, dependencies)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit():
    whole = two_level_engine(15)
    whole.save_at = 9
    whole.run()
    whole.saved.seek(0)

    resumed = two_level_engine(15)
    resumed.load_state_dict(torch.load(whole.saved, weights_only=True))
    assert resumed.global_step == 9
    assert not torch.equal(resumed.outer.module.theta, whole.outer.module.theta)  # there is something left to do
    resumed.run()
    assert resumed.events == [event for event in whole.events if event[1] > 9]
    for after, expected in zip(resumed.outer.module.parameters(), whole.outer.module.parameters(), strict=True):
        assert torch.equal(after, expected)
    for part in ("global_step", "early_stopping", "counts"):
        assert resumed.state_dict()[part] == whole.state_dict()[part]
    assert whole.state_dict()["counts"] == {"inner": 15, "outer": 5}
    assert resumed.outer.scheduler.last_epoch == 5


def test_saving_inside_an_inner_loop_is_refused():
    engine = two_level_engine(15)
    engine.save_at = 8  # two of three inner steps are done, and their graph cannot be saved
    with pytest.raises(RuntimeError, match="inner loop of inner is not over"):
        engine.run()


def test_a_finished_run_does_not_start_again():
    engine = two_level_engine(6)
    engine.run()
    before = engine.outer.module.theta.clone()
    engine.events.clear()
    engine.run()
    assert engine.events == []
    assert torch.equal(engine.outer.module.theta, before)


def test_betty_starts_again_from_the_first_iteration():
    engine = StockRecorder([line_problem(StockLine)], EngineConfig(train_iters=6, strategy="cpu"), ALONE)
    engine.global_step = 4
    engine.run()
    assert engine.global_step == 10


def test_betty_saves_nothing():
    assert not hasattr(Engine, "state_dict")
    assert not hasattr(Engine, "load_state_dict")
    assert not hasattr(Engine, "iteration_end")


def test_the_last_step_is_validated():
    config = EngineConfig(train_iters=5, valid_step=2, strategy="cpu")
    mended = MendedRecorder([line_problem(MendedLine)], config, ALONE)
    mended.run()
    assert mended.steps("validation") == [2, 4, 5]
    stock = StockRecorder([line_problem(StockLine)], config, ALONE)
    stock.run()
    assert stock.steps("validation") == [2, 4]


def test_the_last_step_is_validated_once():
    engine = MendedRecorder(
        [line_problem(MendedLine)], EngineConfig(train_iters=4, valid_step=2, strategy="cpu"), ALONE
    )
    engine.run()
    assert engine.steps("validation") == [2, 4]


def test_an_iteration_ends_after_its_validation():
    engine = MendedRecorder(
        [line_problem(MendedLine)], EngineConfig(train_iters=2, valid_step=2, strategy="cpu"), ALONE
    )
    engine.run()
    assert engine.events == [("train", 1), ("end", 1), ("train", 2), ("validation", 2), ("end", 2)]


def test_validation_is_in_evaluation_mode():
    class Modes(MendedEngine):
        def validation(self) -> None:
            self.during = (self.line._training, self.line.module.training)

    engine = Modes([line_problem(MendedLine)], EngineConfig(train_iters=1, valid_step=1, strategy="cpu"), ALONE)
    engine.run()
    assert engine.during == (False, False)
    assert (engine.line._training, engine.line.module.training) == (True, True)


# 9. the unrolled level


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


if __name__ == "__main__":
    answer, second_port = sys.argv[1:]
    results = mended_process()
    os.environ["MASTER_PORT"] = second_port
    Path(answer).write_text(json.dumps(results | stock_process()))
