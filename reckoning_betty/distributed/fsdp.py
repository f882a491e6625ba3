"""FSDP2 (torch's ``fully_shard``) for models that do not adapt: the in-context and no-facts baselines.

Under an unrolled inner loop FSDP2's hooks give no gradients, or freed storage (DESIGN.md section 3). Its parameters
are ``DTensor`` shards all the same, so fast weights go by these as under ``shard_weights=true``, and the hooks stay on
a twin of the model, which a forward and a backward pass of the usual kind can use.
"""

import copy

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from reckoning_betty.distributed.processes import Processes


def fully_sharded(model: PreTrainedModel, processes: Processes) -> nn.Module:
    """Shard every matrix of ``model`` by rows, as FSDP2 does; norms and biases stay whole.

    Returns:
        A twin of the model on the same parameters, which gathers them layer by layer in forward and backward passes,
        and sums their gradients over processes. ``model`` itself stays free of hooks.
    """
    tensors = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, memo={id(tensor): tensor for tensor in tensors})
    mesh = init_device_mesh(processes.state.device.type, (processes.number,))
    options = {"mesh": mesh, "ignored_params": {parameter for parameter in twin.parameters() if parameter.ndim != 2}}
    depth = model.config.get_text_config().num_hidden_layers
    blocks = [each for each in twin.modules() if isinstance(each, nn.ModuleList) and len(each) == depth]
    for part in [*(layer for layers in blocks for layer in layers), twin]:
        fully_shard(part, **options)
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)  # gloo cannot divide on the way
    for own, wrapped in zip(model.modules(), twin.modules(), strict=True):
        own._parameters.update(wrapped._parameters)
    return twin
