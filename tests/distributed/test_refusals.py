"""Launches that cannot train are refused, with what to launch instead."""

from types import SimpleNamespace

import pytest
from accelerate.utils import DistributedType

from reckoning_betty.distributed.zero import refuse_impossible_strategies
from reckoning_betty.errors import UserError


def launched(kind: DistributedType, stage: int = 0):
    """As much of an accelerator as is looked at."""
    return SimpleNamespace(
        distributed_type=kind, state=SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=stage))
    )


@pytest.mark.parametrize(
    ("accelerator", "shard_weights", "says"),
    [
        (launched(DistributedType.DEEPSPEED, 3), False, r"^ZeRO-3 .*multi_gpu\.yaml.*shard_weights=true"),
        (launched(DistributedType.FSDP), False, r"^FSDP .*multi_gpu\.yaml.*shard_weights=true"),
        (launched(DistributedType.DEEPSPEED, 1), True, "^shard_weights=true .*take shard_weights=false"),
    ],
)
def test_what_cannot_train_is_refused(accelerator, shard_weights, says):
    with pytest.raises(UserError, match=says):
        refuse_impossible_strategies(accelerator, shard_weights)


@pytest.mark.parametrize(
    ("accelerator", "shard_weights"),
    [
        (launched(DistributedType.NO), False),
        (launched(DistributedType.MULTI_GPU), True),
        (launched(DistributedType.DEEPSPEED, 2), False),
    ],
)
def test_what_can_train_is_not(accelerator, shard_weights):
    refuse_impossible_strategies(accelerator, shard_weights)
