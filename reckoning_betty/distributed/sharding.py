"""Weight matrices of which every process holds a part, exact under the unrolled hypergradient.

A matrix becomes a ``DTensor`` of rows, gathered for each product that needs it and freed after it, and its gradient is
summed over processes and cut into the same rows (``inner/matrices.py``). So weights, their gradients and the outer
optimizer's state take 1 / processes of the memory. Norms, biases and inner rates, all small, are whole everywhere.

The idea is SimpleFSDP's (arXiv 2411.00284), shown to be exact through an unrolled inner loop in DESIGN.md section 3;
FSDP2's own hooks are not (there: gradients missing, or freed storage).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.nn.utils import get_total_norm
from torch.utils._pytree import tree_map

from reckoning_betty.distributed.processes import Processes


def shard_matrices(module: nn.Module, processes: Processes) -> None:
    """Replace every matrix of ``module``, tied ones once, by a sharded parameter of the same name."""
    mesh = init_device_mesh(processes.state.device.type, (processes.number,))
    made: dict[nn.Parameter, nn.Parameter] = {}
    for child in module.modules():
        for name, parameter in list(child._parameters.items()):
            if parameter is None or parameter.ndim != 2:
                continue
            if parameter not in made:
                held = parameter.detach().to(processes.state.device)
                made[parameter] = nn.Parameter(distribute_tensor(held, mesh, [Shard(0)]), parameter.requires_grad)
            child._parameters[name] = made[parameter]


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of it alone."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """The values of all processes' parts, without history; all processes have to ask for them."""
    return tensor.detach().full_tensor() if is_sharded(tensor) else tensor.detach()


def gathered(parameter: Tensor) -> Tensor:
    """As ``whole``, but differentiable; the gradient is summed over processes."""
    if not is_sharded(parameter):
        return parameter
    return parameter.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])


def sharded_like(parameter: Tensor, gradient: Tensor) -> Tensor:
    """This process's part of the sum over processes of ``gradient``, as ``parameter`` is sharded."""
    partial = DTensor.from_local(gradient.contiguous(), parameter.device_mesh, [Partial()], run_check=False)
    return partial.redistribute(placements=parameter.placements)


def global_norm(tensors: Iterable[Tensor], processes: Processes) -> Tensor:
    """The Euclidean norm of all of them together, those that every process holds whole counted once."""
    sharded, held = [], []
    for tensor in tensors:
        (sharded if is_sharded(tensor) else held).append(_local(tensor))
    if not sharded:
        return get_total_norm(held)
    return (get_total_norm(held).square() + processes.sum(get_total_norm(sharded).square())).sqrt()


def clip(parameters: Iterable[Tensor], max_norm: float, norm: Tensor) -> None:
    """Scale all gradients so that their ``norm`` is ``max_norm`` at most."""
    coefficient = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            _local(parameter.grad).mul_(coefficient)


def whole_state(state: Any) -> Any:
    """A state dict with every tensor whole, as one process alone would have it; all processes have to ask for it.

    A tensor that stands in it twice (tied weights) does so afterwards.
    """
    made: dict[int, Tensor] = {}

    def of(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) not in made:
            made[id(leaf)] = whole(leaf)
        return made[id(leaf)]

    return tree_map(of, state)


def fill(parameter: Tensor, value: Tensor) -> None:
    """Write ``value``, whole and the same in all processes, into a parameter that may be sharded."""
    _local(parameter.detach()).copy_(_local(_as_sharded(value, parameter)))


def load_module(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a whole state dict into a module some of whose parameters are sharded."""
    own = module.state_dict()
    module.load_state_dict({name: _as_sharded(tensor, own.get(name)) for name, tensor in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a whole state dict into the optimizer of parameters some of which are sharded."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    own = {
        index: {key: _as_sharded(value, parameters[index]) for key, value in values.items()}
        for index, values in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": own})


def _as_sharded(value: Any, like: Tensor | None) -> Any:
    """``value``, sharded as ``like`` is, if it is a tensor of its shape; the step count of an optimizer is not."""
    if isinstance(value, Tensor) and like is not None and is_sharded(like) and value.shape == like.shape:
        held = value.to(like.device)
        return distribute_tensor(held, like.device_mesh, like.placements, src_data_rank=None)  # the same everywhere
    return value


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if is_sharded(tensor) else tensor
