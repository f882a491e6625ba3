"""DeepSpeed's ZeRO under the outer optimizer, for every hypergradient method.

DeepSpeed wants to see a loss whose gradient autograd brings to the parameters. A hypergradient is not always that
(implicit methods compute it piece by piece), and DeepSpeed's hooks would take away the pieces. So it gets its own: with g
the whole gradient, the same in all processes, the loss sum of <theta, g>, whose gradient is g and whose mean over
processes too. ZeRO then keeps each process's part of the optimizer's state (stage 1) and of the gradient (stage 2).
"""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn


def uses_zero(accelerator: Accelerator | None) -> bool:
    return accelerator is not None and accelerator.distributed_type == DistributedType.DEEPSPEED


class ZeroOptimizer:
    """An optimizer whose state DeepSpeed shares out. ``step`` takes the gradients that stand in ``.grad``.

    Args:
        module: whose parameters the optimizer has.
        optimizer: torch's.
        accelerator: launched with a DeepSpeed config.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator):
        options = accelerator.state.deepspeed_plugin.deepspeed_config
        options["train_micro_batch_size_per_gpu"] = 1  # DeepSpeed counts samples with it, and we do not ask
        options["gradient_clipping"] = 0.0  # done before, on the whole gradient
        options["zero_allow_untested_optimizer"] = True
        self.accelerator = accelerator
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.engine, self.optimizer = accelerator.prepare(module, optimizer)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Hand the gradients over, and move the parameters."""
        gradients = [parameter.grad for parameter in self.parameters]
        self.zero_grad()
        pairs = zip(self.parameters, gradients, strict=True)
        loss = sum((parameter * gradient).sum() for parameter, gradient in pairs if gradient is not None)
        self.accelerator.backward(loss)  # DeepSpeed's step, too

    def state_dict(self) -> dict[str, Any]:
        """As torch's optimizer's, whole; all processes have to ask for it."""
        from deepspeed.utils import safe_get_full_optimizer_state

        state: dict[int, dict[str, Tensor]] = {}
        for index, parameter in enumerate(self.parameters):
            found = {key: safe_get_full_optimizer_state(parameter, key) for key in ("exp_avg", "exp_avg_sq")}
            if all(value is not None for value in found.values()):
                state[index] = {"step": torch.tensor(float(self.engine.global_steps)), **found}
        groups, first = [], 0
        for group in self.param_groups:
            groups.append({key: value for key, value in group.items() if key != "params"})
        return {"state": state, "param_groups": groups, "first": first}
