"""Two processes with different tasks have the hypergradient that one process has with all of them, and train alike."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_steps import CASES, CASES_OF, ZERO, train

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROCESSES = 2
SMALL_BUCKET = 100
"""Numbers that DeepSpeed reduces at once."""


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """A function that gives the folder of what each process found under a strategy."""
    folders: dict[str, Path] = {}

    def run(strategy: str) -> Path:
        if strategy not in folders:
            folders[strategy] = tmp_path_factory.mktemp(strategy)
            command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(PROCESSES)]
            command += ["--standalone", str(HERE / "training_steps.py"), str(folders[strategy]), strategy]
            environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            if strategy.startswith("zero"):  # as accelerate launch does
                file = deepspeed_config(strategy, folders[strategy])
                environment |= {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}
            ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
            assert ended.returncode == 0, ended.stderr[-3000:]
        return folders[strategy]

    return run


def deepspeed_config(strategy: str, folder: Path) -> Path:
    """The shipped one, but for buckets that hold a few vectors and none of the matrices, which go by themselves."""
    config = json.loads((ROOT / "engine_configs" / "deepspeed" / f"{strategy}.json").read_text())
    config["zero_optimization"]["reduce_bucket_size"] = SMALL_BUCKET
    file = folder / "zero.json"
    file.write_text(json.dumps(config))
    return file


@pytest.fixture(scope="module")
def together():
    """A function that gives what one process finds with all tasks, in the default type."""
    found: dict[tuple[str, torch.dtype], dict] = {}

    def run(case: str) -> dict:
        key = case, torch.get_default_dtype()
        if key not in found:
            found[key] = train(case)
        return found[key]

    return run


def assert_same(found: dict, expected: dict, error: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max()
        assert scale > 0
        torch.testing.assert_close(found[name], value, rtol=0, atol=error * scale.item())


@pytest.mark.parametrize(
    ("strategy", "case"), [(name, case) for name in ("whole", "sharded", "fsdp2") for case in CASES_OF[name]]
)
def test_two_processes_train_as_one(strategy, case, apart, together, float64):
    for rank in range(PROCESSES):
        assert_same(load_file(apart(strategy) / f"{case}-{rank}.safetensors"), together(case), 1e-10)


@pytest.mark.parametrize("case", ZERO)
@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_two_processes_train_as_one_under_deepspeed(strategy, case, apart, together):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install '.[deepspeed]'")
    for rank in range(PROCESSES):
        found, expected = load_file(apart(strategy) / f"{case}-{rank}.safetensors"), dict(together(case))
        # the gradient is that of the first step; ten steps of AdamW enlarge errors of rounding
        assert_same({"losses": found.pop("losses")}, {"losses": expected.pop("losses")}, 1e-4)
        assert_same(found, expected, 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_passes_are_summed(case, apart, together, float64):
    assert_same(train(case, accumulation_steps=2), together(case), 1e-10)
    if case == "unrolled-dual":
        assert_same(train(case, accumulation_steps=5), together(case), 1e-10)
    assert_same(load_file(apart("whole") / f"{case}-accumulated-0.safetensors"), together(case), 1e-10)
