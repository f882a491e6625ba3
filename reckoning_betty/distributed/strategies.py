"""What each process holds of weights, gradients and optimizer state, as the launch and the config ask for it."""

import os
from enum import StrEnum

from accelerate import DeepSpeedPlugin
from accelerate.utils import parse_flag_from_env

from reckoning_betty.distributed.processes import Processes
from reckoning_betty.errors import UserError


class Strategy(StrEnum):
    """How it is called in messages."""

    WHOLE = "one process or a copy in each"
    """Everything in every process."""
    SHARDED = "shard_weights=true"
    """A part of every matrix, gathered for each product (``sharding.py``)."""
    FSDP2 = "FSDP2"
    """The same parts; models that do not adapt run under torch's own FSDP2 (``fsdp.py``)."""
    ZERO = "ZeRO-1 or ZeRO-2"
    """Whole weights; DeepSpeed keeps the optimizer's state in parts (``zero.py``)."""
    ZERO3 = "ZeRO-3"
    """Weights as under ``SHARDED``, the optimizer with weights of its own as under ``ZERO``, all in parts."""

    @property
    def shards_weights(self) -> bool:
        """Whether each process holds a part of every matrix."""
        return self in (Strategy.SHARDED, Strategy.FSDP2, Strategy.ZERO3)


def launched_strategy(shard_weights: bool, processes: Processes) -> Strategy:
    """The strategy that ``accelerate launch`` and the config's ``shard_weights`` ask for together.

    With one process there is nothing to share out: FSDP2 is then as no strategy, and ZeRO's stages are alike.

    Raises:
        UserError: a launch that cannot train; it says why, and what to launch instead.
    """
    several = processes.number > 1
    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        plugin = DeepSpeedPlugin()
        stage = plugin.zero_stage
        for kind in ("bf16", "fp16"):
            if plugin.deepspeed_config.get(kind, {}).get("enabled") is True:
                raise UserError(
                    f"DeepSpeed's {kind} holds the weights themselves in 16 bits, where small steps are lost: take "
                    "it out of its config, and add model.precision=bfloat16, which rounds products alone."
                )
        if shard_weights and stage < 3:
            raise UserError(
                f"shard_weights=true leaves DeepSpeed's ZeRO-{stage} no whole weights to step: take "
                "shard_weights=false, or launch with engine_configs/accelerate/deepspeed_zero3.yaml or multi_gpu.yaml."
            )
        return Strategy.ZERO3 if stage == 3 and several else Strategy.ZERO
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        if os.environ.get("FSDP_VERSION") != "2":
            raise UserError(
                "FSDP1 flattens matrices away, so their products cannot be differentiated twice: launch with "
                "engine_configs/accelerate/fsdp2.yaml, or write fsdp_version: 2 in yours."
            )
        if parse_flag_from_env("FSDP_OFFLOAD_PARAMS"):
            raise UserError(
                "fsdp_offload_params=true is not possible here: launch with "
                "engine_configs/accelerate/deepspeed_zero3_offload.yaml, which keeps the optimizer on the CPU."
            )
        return Strategy.FSDP2 if several else Strategy.WHOLE
    return Strategy.SHARDED if shard_weights and several else Strategy.WHOLE
