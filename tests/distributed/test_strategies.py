"""Which strategy a launch asks for; launches that cannot train are refused, with what to launch instead."""

import json
from types import SimpleNamespace

import pytest

from reckoning_betty.distributed.strategies import Strategy, launched_strategy
from reckoning_betty.errors import UserError

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """Pretend to be launched, by the variables that ``accelerate launch`` sets; a number is a stage of ZeRO."""

    def launch(how: dict[str, str] | int, **section: dict) -> None:
        if isinstance(how, int):
            pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install '.[deepspeed]'")
            file = tmp_path / "zero.json"
            file.write_text(
                json.dumps({"zero_optimization": {"stage": how}, "gradient_accumulation_steps": 1} | section)
            )
            how = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}
        for name, value in how.items():
            monkeypatch.setenv(name, value)

    return launch


@pytest.mark.parametrize(
    ("how", "shard_weights", "number", "strategy"),
    [
        ({}, False, 1, Strategy.WHOLE),
        ({}, False, 2, Strategy.WHOLE),
        ({}, True, 1, Strategy.WHOLE),
        ({}, True, 2, Strategy.SHARDED),
        (FSDP, False, 2, Strategy.FSDP2),
        (FSDP, True, 2, Strategy.FSDP2),
        (FSDP, False, 1, Strategy.WHOLE),
        (1, False, 2, Strategy.ZERO),
        (2, False, 1, Strategy.ZERO),
        (3, False, 2, Strategy.ZERO3),
        (3, True, 2, Strategy.ZERO3),
        (3, False, 1, Strategy.ZERO),
    ],
)
def test_the_launch_says_what_is_shared_out(how, shard_weights, number, strategy, launched):
    launched(how)
    assert launched_strategy(shard_weights, SimpleNamespace(number=number)) is strategy


@pytest.mark.parametrize(
    ("how", "shard_weights", "says"),
    [
        (2, True, r"^shard_weights=true .*ZeRO-2.*take shard_weights=false.*deepspeed_zero3\.yaml"),
        (FSDP | {"FSDP_VERSION": "1"}, False, r"^FSDP1 .*fsdp2\.yaml"),
        ({"ACCELERATE_USE_FSDP": "true"}, False, r"^FSDP1 .*fsdp2\.yaml"),
        (FSDP | {"FSDP_OFFLOAD_PARAMS": "true"}, False, r"^fsdp_offload_params=true .*deepspeed_zero3_offload\.yaml"),
    ],
)
def test_what_cannot_train_is_refused(how, shard_weights, says, launched):
    launched(how)
    with pytest.raises(UserError, match=says):
        launched_strategy(shard_weights, SimpleNamespace(number=2))


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_weights_of_16_bits_are_refused(kind, launched):
    launched(2, **{kind: {"enabled": True}})
    with pytest.raises(UserError, match=rf"^DeepSpeed's {kind} .*model\.precision=bfloat16"):
        launched_strategy(False, SimpleNamespace(number=2))
