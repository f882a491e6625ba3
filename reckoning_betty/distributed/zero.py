"""DeepSpeed's ZeRO under the outer optimizer, stages 1 and 2, for every hypergradient method.

DeepSpeed wants a loss whose gradient autograd brings to the parameters. A hypergradient is not always that (implicit
methods make it piece by piece), and DeepSpeed's hooks would take the pieces away. So it gets a loss of its own: with g
the whole hypergradient, the same in all processes,

    sum over parameters of <theta, g>,

whose gradient is g in every process, and so is their mean. DeepSpeed then keeps each process's part of the optimizer's
state (stage 1) and of the gradient it works with (stage 2).
"""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from reckoning_betty.errors import UserError

STATES = ("exp_avg", "exp_avg_sq")
"""What AdamW remembers of each parameter."""


def uses_zero(accelerator: Accelerator | None) -> bool:
    """Whether the launch was told to use DeepSpeed."""
    return accelerator is not None and accelerator.distributed_type == DistributedType.DEEPSPEED


def refuse_impossible_strategies(accelerator: Accelerator, shard_weights: bool) -> None:
    """Raise UserError for a launch that cannot train, or not with sharded matrices."""
    kind = accelerator.distributed_type
    stage = accelerator.state.deepspeed_plugin.zero_stage if kind == DistributedType.DEEPSPEED else 0
    if stage == 3 or kind == DistributedType.FSDP:
        name = "ZeRO-3" if stage == 3 else "FSDP"
        raise UserError(
            f"{name} frees the weights that the hypergradient comes back to, so it cannot train here: launch with "
            "engine_configs/accelerate/multi_gpu.yaml and add shard_weights=true, which shards the same and is exact."
        )
    if shard_weights and kind == DistributedType.DEEPSPEED:
        raise UserError(
            "shard_weights=true shards the optimizer's state already, and DeepSpeed cannot: take shard_weights=false, "
            "or launch with engine_configs/accelerate/multi_gpu.yaml."
        )


class ZeroOptimizer:
    """An AdamW whose state DeepSpeed shares out; ``step`` takes what stands in ``.grad``, the same in all processes.

    Args:
        module: whose parameters the optimizer has.
        optimizer: torch's; its parameter groups, and with them a schedule, keep their meaning.
        accelerator: launched with a DeepSpeed config of stage 0 to 2.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator):
        options = accelerator.state.deepspeed_plugin.deepspeed_config
        options["train_micro_batch_size_per_gpu"] = 1  # DeepSpeed counts samples by it, and is not asked for them
        options["gradient_clipping"] = 0.0  # done before, on the whole gradient
        options["zero_allow_untested_optimizer"] = True
        self._own = optimizer
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._sizes = [len(group["params"]) for group in optimizer.param_groups]
        self._engine, _ = accelerator.prepare(module, optimizer)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._own.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        gradients = [parameter.grad for parameter in self._parameters]
        self.zero_grad()
        pairs = zip(self._parameters, gradients, strict=True)
        loss = sum((parameter * gradient).sum() for parameter, gradient in pairs if gradient is not None)
        self._engine.backward(loss)  # not Accelerate's, which keeps to the first engine that a process made
        self._engine.step()

    def state_dict(self) -> dict[str, Any]:
        """As torch's optimizer has it in one process; all processes have to ask for it."""
        from deepspeed.utils import safe_get_full_optimizer_state

        steps, state = self._engine.global_steps, {}
        if steps:
            self._link_state()
        for index, parameter in enumerate(self._parameters if steps else []):
            found = {key: safe_get_full_optimizer_state(parameter, key) for key in STATES}
            state[index] = {"step": torch.tensor(float(steps))} | {key: value.clone() for key, value in found.items()}
        groups, first = [], 0
        for group, size in zip(self.param_groups, self._sizes, strict=True):
            options = {key: value for key, value in group.items() if key != "params"}
            groups.append(options | {"params": list(range(first, first + size))})
            first += size
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What ``state_dict`` gave, or torch's optimizer in one process."""
        from deepspeed.utils import safe_set_full_optimizer_state

        self._engine.optimizer.refresh_fp32_params()  # the weights have been loaded before
        if state["state"]:
            for group in self.param_groups:
                group["lr"] = 0.0
            for parameter in self._parameters:
                parameter.grad = torch.zeros_like(parameter)
            self.step()  # moves nothing; makes the state that is to be filled
            self._link_state()
            for index, parameter in enumerate(self._parameters):
                for key in STATES:
                    safe_set_full_optimizer_state(parameter, state["state"][index][key].to(parameter.device), key)
            steps = int(state["state"][0]["step"])
            self._engine.global_steps = steps
            for own in self._own.state.values():
                own["step"].fill_(steps)
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group.update({key: value for key, value in saved.items() if key != "params"})

    def _link_state(self) -> None:
        """DeepSpeed links parameters to their state when the first group has stepped, and the others have none yet."""
        self._engine.optimizer._hp_optimizer_states_linked = False
        self._engine.optimizer._lazy_init_hp_params_optimizer_state()
