"""The same outer step by other libraries, each through its own documented interface.

They work task by task, so the tasks' hypergradients are added up and each task's memory is freed before the next, as
their users do.
"""

import importlib
import importlib.metadata
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from reckoning_betty.benchmark.engines import SHARED_RATE, Prepared
from reckoning_betty.benchmark.workload import Workload, loss_of_one_task
from reckoning_betty.errors import UserError

TASK_BY_TASK = "task by task"


def prepare_higher(workload: Workload) -> Prepared:
    """``higher.innerloop_ctx``, with the rates through ``override``."""
    higher = _import("higher")
    model, shape = workload.model, workload.shape
    groups = [{"params": [parameter]} for parameter in model.parameters()]
    optimizer = torch.optim.SGD(groups, lr=shape.rate)

    def step() -> None:
        for facts, questions in zip(workload.facts, workload.questions, strict=True):
            with higher.innerloop_ctx(model, optimizer, copy_initial_weights=False, track_higher_grads=True) as (
                functional,
                differentiable,
            ):
                for k in range(shape.inner_steps):
                    rates = [workload.rates[name][k] for name in workload.names]
                    differentiable.step(loss_of_one_task(functional, facts), override={"lr": rates})
                (loss_of_one_task(functional, questions) / shape.tasks).backward()

    return Prepared(step, TASK_BY_TASK, workload.rates, f"higher {_version(higher)}")


def prepare_torchopt(workload: Workload) -> Prepared:
    """``torchopt.FuncOptimizer`` over ``torchopt.sgd``, whose rate may be a schedule: one learned rate a step."""
    torchopt = _import("torchopt")
    model, shape = workload.model, workload.shape
    rate = torch.full((shape.inner_steps,), shape.rate, dtype=model.dtype, requires_grad=True)

    def step() -> None:
        for facts, questions in zip(workload.facts, workload.questions, strict=True):
            optimizer = torchopt.FuncOptimizer(torchopt.sgd(lr=lambda count: rate[count]))
            values = tuple(model.parameters())
            for _ in range(shape.inner_steps):
                values = optimizer.step(_loss(workload, values, facts), values)
            (_loss(workload, values, questions) / shape.tasks).backward()

    note = "its sgd takes a schedule over steps for all parameters, no rate of each, so only N rates are learned"
    return Prepared(step, TASK_BY_TASK, {SHARED_RATE: rate}, f"TorchOpt {_version(torchopt)}: {note}")


def prepare_boat(workload: Workload) -> Prepared:
    """``boat_torch.Problem`` with gradient descent (NGD) below and reverse differentiation (RAD) above."""
    boat = _import("boat_torch")
    model, shape = workload.model, workload.shape
    parameters = list(model.parameters())
    folder = tempfile.TemporaryDirectory(prefix="boat-")  # it writes a log of losses, asked or not
    config = {
        "fo_op": None,
        "gm_op": ["NGD"],
        "na_op": ["RAD"],
        "lower_level_model": model,
        "upper_level_model": model,
        "lower_level_var": parameters,
        "upper_level_var": parameters,
        "lower_level_opt": torch.optim.SGD(parameters, lr=shape.rate),
        "upper_level_opt": torch.optim.SGD(parameters, lr=shape.rate),
        "lower_iters": shape.inner_steps,
        "GDA": {"alpha_init": 0.0, "alpha_decay": 0.9},
        "RGT": {"truncate_iter": 0},
        "accumulate_grad": True,
        "return_grad": True,
        "copy_last_param": False,
        "device": "cpu",
        "loss_log_path": str(Path(folder.name) / "losses.json"),
    }
    losses = {
        "lower_level_loss": {"function": f"{__name__}.boat_lower_loss"},
        "upper_level_loss": {"function": f"{__name__}.boat_upper_loss"},
    }
    problem = boat.Problem(config, losses).build_ll_solver().build_ul_solver()

    def step() -> None:
        lower = [{"tokens": facts} for facts in workload.facts]
        upper = [{"tokens": questions, "tasks": shape.tasks} for questions in workload.questions]
        problem.run_iter(lower, upper, current_iter=0)
        problem.loss_history.clear()
        assert folder.name  # the closure keeps the folder until the engine is gone

    note = "it copies rates out of a torch optimizer, away from their graph, so none is learned"
    return Prepared(step, TASK_BY_TASK, {}, f"BOAT {_version(boat, 'boat-torch')}: {note}")


def boat_lower_loss(feed: dict[str, Any], upper: nn.Module, lower: nn.Module, params: Any = None) -> Tensor:
    """The facts' loss, as BOAT asks for it."""
    return loss_of_one_task(lower, feed["tokens"])


def boat_upper_loss(feed: dict[str, Any], upper: nn.Module, lower: nn.Module, params: Any = None) -> Tensor:
    """A task's part of the mean loss of the questions, as BOAT asks for it."""
    return loss_of_one_task(lower, feed["tokens"]) / feed["tasks"]


def _loss(workload: Workload, values: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
    named = dict(zip(workload.names, values, strict=True))
    return loss_of_one_task(_With(workload.model, named), tokens)


class _With:
    """A model with other values for its parameters."""

    def __init__(self, model: nn.Module, values: dict[str, Tensor]):
        self.model = model
        self.values = values

    def __call__(self, **inputs: Any) -> Any:
        return functional_call(self.model, self.values, (), inputs)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPeerError(
            f"{name} cannot be imported ({error}): type pip install 'reckoning_betty[peers]', or for BOAT "
            "pip install --no-deps boat-torch."
        ) from None


class MissingPeerError(UserError):
    """A library to compare with is not installed."""


def _version(module: ModuleType, distribution: str | None = None) -> str:
    return importlib.metadata.version(distribution or module.__name__)


PEERS: dict[str, Callable[[Workload], Prepared]] = {
    "higher": prepare_higher,
    "torchopt": prepare_torchopt,
    "boat": prepare_boat,
}
