"""Two processes with different tasks have the hypergradient that one process has with all of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from one_outer_step import CASES, SHARDED, hypergradient
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
PROCESSES = 2


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """The folder of what each process found."""
    folder = tmp_path_factory.mktemp("apart")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(PROCESSES)]
    command += ["--standalone", str(HERE / "one_outer_step.py"), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


@pytest.mark.parametrize("case", [*CASES, *(f"sharded-{case}" for case in SHARDED)])
def test_two_processes_agree_with_one(case, apart, float64):
    together = hypergradient(case.removeprefix("sharded-"))
    for rank in range(PROCESSES):
        own = load_file(apart / f"{case}-{rank}.safetensors")
        assert own.keys() == together.keys()
        for name, expected in together.items():
            scale = expected.abs().max()
            assert scale > 0
            torch.testing.assert_close(own[name], expected, rtol=0, atol=1e-10 * scale.item())
