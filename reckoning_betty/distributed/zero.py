"""DeepSpeed's ZeRO under the outer optimizer, stages 1 to 3, for every hypergradient method.

DeepSpeed wants a loss whose gradient autograd brings to the parameters. A hypergradient is not always that (implicit
methods make it piece by piece), and DeepSpeed's hooks would take the pieces away. So it gets a module and a loss of its
own: with g the whole hypergradient, the same in all processes,

    sum over parameters of <theta, g>,

whose gradient is g in every process, and so is their mean. DeepSpeed then keeps each process's part of the optimizer's
state (stage 1) and of the gradient it works with (stage 2), on the CPU if it is told to.

At stage 3 it keeps parts of the weights too, and frees those between uses. The hypergradient needs them in between, so
the model has parts of its own (``sharding.py``), and gets what DeepSpeed's have become after each step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, parse_flag_from_env
from torch import Tensor, nn
from torch.autograd import Function

from reckoning_betty.distributed.sharding import fill, whole

STATES = ("exp_avg", "exp_avg_sq")
"""What AdamW remembers of each parameter."""


def uses_zero(accelerator: Accelerator | None) -> bool:
    """Whether the launch was told to use DeepSpeed."""
    return accelerator is not None and accelerator.distributed_type == DistributedType.DEEPSPEED


def leave_models_whole() -> None:
    """Undo that transformers, once DeepSpeed is at stage 3, makes every model in parts that only DeepSpeed gathers."""
    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config  # imports all of DeepSpeed

        unset_hf_deepspeed_config()


class ZeroOptimizer:
    """An AdamW whose state DeepSpeed shares out; ``step`` takes what stands in ``.grad``, the same in all processes.

    Args:
        optimizer: torch's; its parameter groups, and with them a schedule, keep their meaning.
        accelerator: launched with a DeepSpeed config.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, accelerator: Accelerator):
        plugin = accelerator.state.deepspeed_plugin
        options = plugin.deepspeed_config
        options["train_micro_batch_size_per_gpu"] = 1  # DeepSpeed counts samples by it, and is not asked for them
        options["gradient_accumulation_steps"] = 1  # done before, as is clipping, on the whole gradient
        options["gradient_clipping"] = 0.0
        options["zero_allow_untested_optimizer"] = True
        options.setdefault("zero_force_ds_cpu_optimizer", False)  # torch's AdamW offloads too, and needs no compiler
        stage = options["zero_optimization"]
        stage["memory_efficient_linear"] = False  # would replace torch's own, for all modules
        stage["stage3_param_persistence_threshold"] = 0  # nothing is used twice, so nothing need stay whole
        self._own = optimizer
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._sizes = [len(group["params"]) for group in optimizer.param_groups]
        self._keeps_weights = plugin.zero_stage == 3
        if self._keeps_weights:
            with _partitioned(options):
                held = [Pairing(whole(parameter).clone()) for parameter in self._parameters]
            values = iter(pairing.value for pairing in held)
            for group in optimizer.param_groups:
                group["params"] = [next(values) for _ in group["params"]]
        else:
            held = [Pairing(parameter) for parameter in self._parameters]
        self._held = [pairing.value for pairing in held]
        self._engine, _ = accelerator.prepare(Pairings(held), optimizer)
        leave_models_whole()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._own.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        gradients = [parameter.grad for parameter in self._parameters]
        self.zero_grad()
        self._engine.backward(self._engine(gradients))  # not Accelerate's, which keeps to the first engine made
        self._engine.step()
        if self._keeps_weights:
            import deepspeed

            for parameter, held in zip(self._parameters, self._held, strict=True):
                with deepspeed.zero.GatheredParameters([held]):
                    fill(parameter, held.data)

    def state_dict(self) -> dict[str, Any]:
        """As torch's optimizer has it in one process; all processes have to ask for it."""
        from deepspeed.utils import safe_get_full_optimizer_state

        steps, state = self._engine.global_steps, {}
        if steps:
            self._link_state()
        for index, held in enumerate(self._held if steps else []):
            found = {key: safe_get_full_optimizer_state(held, key) for key in STATES}
            state[index] = {"step": torch.tensor(float(steps))} | {
                key: value.clone().view(self._parameters[index].shape) for key, value in found.items()
            }
        groups, first = [], 0
        for group, size in zip(self.param_groups, self._sizes, strict=True):
            options = {key: value for key, value in group.items() if key != "params"}
            groups.append(options | {"params": list(range(first, first + size))})
            first += size
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What ``state_dict`` gave, or torch's optimizer in one process; the weights have been loaded before."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if self._keeps_weights:
            for parameter, held in zip(self._parameters, self._held, strict=True):
                safe_set_full_fp32_param(held, whole(parameter))
        else:
            self._engine.optimizer.refresh_fp32_params()
        if state["state"]:
            for group in self.param_groups:
                group["lr"] = 0.0
            for parameter in self._parameters:
                parameter.grad = torch.zeros_like(parameter)
            self.step()  # moves nothing; makes the state that is to be filled
            self._link_state()
            for index, held in enumerate(self._held):
                for key in STATES:
                    safe_set_full_optimizer_state(held, state["state"][index][key].to(held.device), key)
            steps = int(state["state"][0]["step"])
            self._engine.global_steps = steps
            for own in self._own.state.values():
                own["step"].fill_(steps)
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group.update({key: value for key, value in saved.items() if key != "params"})

    def _link_state(self) -> None:
        """DeepSpeed links parameters to their state when the first group has stepped, and the others have none yet."""
        if not self._keeps_weights:  # at stage 3 it looks them up when asked
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()


class Pairing(nn.Module):
    """<theta, g> for one parameter theta, in a module of its own, so that stage 3 gathers one after another."""

    def __init__(self, value: Tensor):
        super().__init__()
        self.value = value if isinstance(value, nn.Parameter) else nn.Parameter(value)

    def forward(self, gradient: Tensor) -> Tensor:
        return _Paired.apply(self.value, gradient)


class Pairings(nn.Module):
    """The sum of <theta, g> over parameters; those that have no g count as 0."""

    def __init__(self, pairings: list[Pairing]):
        super().__init__()
        self.pairings = nn.ModuleList(pairings)

    def forward(self, gradients: list[Tensor | None]) -> Tensor:
        pairs = zip(self.pairings, gradients, strict=True)
        return sum(pairing(gradient) for pairing, gradient in pairs if gradient is not None)


class _Paired(Function):
    """Its value is never looked at, so it is 0; backward gathers a sharded g."""

    @staticmethod
    def forward(ctx, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.gradient = gradient
        return torch.zeros((), device=value.device)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None]:
        return whole(ctx.gradient) * g, None


@contextmanager
def _partitioned(options: dict[str, Any]) -> Iterator[None]:
    """Modules made here hold their process's part from the start, so that the whole never stands in one of them."""
    import deepspeed

    with deepspeed.zero.Init(config_dict_or_path=options):  # told a type, it takes 16 bits whatever that is
        yield
