"""``accelerate launch`` with two processes: the same training as with one, written once, and gone on with by one."""

import json
import socket
import time

import psutil
import pytest
import torch
from launching import ROOT, TINY, call, ended, last_of_each, start, start_command
from safetensors.torch import load_file

OVERRIDES = last_of_each(*TINY, "baselines=[in_context]", "reckoning.tasks_per_step=5", "threads=1", "seed=3")
"""Five tasks for two processes: shares of different sizes."""


def launch(*arguments: object, config: str = "multi_cpu"):
    """Start two processes, as a user on a machine without GPU would."""
    config = ROOT / "engine_configs" / "accelerate" / f"{config}.yaml"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["accelerate", "launch", "--quiet", "--config_file", str(config), "--num_processes", "2"]
    command += ["--main_process_port", str(port)]
    return start_command([*command, str(ROOT / "launch" / "train.py"), *map(str, arguments)])


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_training(run, other):
    one, two = metrics(run), metrics(other)
    assert [(entry["method"], entry["step"], *entry) for entry in one] == [
        (entry["method"], entry["step"], *entry) for entry in two
    ]
    for a, b in zip(one, two, strict=True):
        numbers = [key for key in a if key not in ("method", "step", "seconds")]
        assert [a[key] for key in numbers] == pytest.approx([b[key] for key in numbers], rel=1e-4), a
    for name in ("checkpoint/model.safetensors", "checkpoint/inner_rates.safetensors"):
        one, two = load_file(run / name), load_file(other / name)
        assert one.keys() == two.keys()
        for key in one:
            torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-4)
    one, two = (json.loads((folder / "summary.json").read_text()) for folder in (run, other))
    assert one["label_accuracy"] == two["label_accuracy"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert call("train", "--problem", "clutrr", "--output", folder, *OVERRIDES).code == 0
    return folder


STRATEGIES = {
    "alone": ("", ()),
    "ddp": ("multi_cpu", ()),
    "sharded": ("multi_gpu", ("shard_weights=true",)),
    "zero1": ("deepspeed_zero1", ()),
    "zero2": ("deepspeed_zero2", ()),
}
"""Launcher config and overrides."""


def begin(strategy: str, *arguments: object):
    """Start a training under a strategy."""
    if strategy.startswith("zero"):
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install '.[deepspeed]'")
    config = STRATEGIES[strategy][0]
    arguments = ("--problem", "clutrr", *arguments)
    return launch(*arguments, config=config) if config else start("train", *arguments)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "alone"])
def test_two_processes_train_as_one(strategy, alone, tmp_path):
    result = ended(begin(strategy, "--output", tmp_path / "run", *OVERRIDES, *STRATEGIES[strategy][1]))
    assert result.code == 0, result.err
    assert_same_training(alone, tmp_path / "run")
    assert result.out.count("2 processes") == result.out.count("Checkpoint, summary and plots") == 1
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    ("killed", "resumed"),
    [("ddp", "alone"), ("sharded", "alone"), ("zero2", "alone"), ("alone", "sharded"), ("alone", "zero1")],
)
def test_a_killed_run_goes_on_with_other_processes(killed, resumed, alone, tmp_path):
    run, options = tmp_path / "run", STRATEGIES[resumed if killed == "alone" else killed][1]
    process = begin(killed, "--output", run, *OVERRIDES, *options)
    until = time.monotonic() + 120
    while not (run / "resume" / "reckoning.pt").exists():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < until
    # the launcher starts them in sessions of their own, so a signal to its group would not reach them
    everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in everyone:
        one.kill()
    psutil.wait_procs(everyone)
    assert not (run / "resume" / "reckoning.json").exists()
    result = ended(begin(resumed, "--output", run, "--resume"))
    assert result.code == 0, result.err
    assert_same_training(alone, run)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("reckoning.tasks_per_step=1", "reckoning.tasks_per_step=1 leaves some of 2 processes without a task"),
        ("inner.stepz=3", "inner.steps"),
    ],
)
def test_bad_input_is_said_once(override, says, tmp_path):
    arguments = last_of_each(*OVERRIDES, override)
    result = ended(launch("--problem", "clutrr", "--output", tmp_path / "run", *arguments))
    assert result.code != 0
    assert result.err.count("error: ") == 1
    assert says in result.err
    assert not (tmp_path / "run").exists()
