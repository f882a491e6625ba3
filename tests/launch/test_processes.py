"""Several processes train as one does under every launcher config; a killed run goes on with another number of them."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked import Training
from launching import TINY, call, ended, free_port, last_of_each, launch
from safetensors.torch import load_file

OVERRIDES = last_of_each(
    *TINY, "baselines=[in_context]", "reckoning.steps=20", "reckoning.tasks_per_step=5", "threads=1", "seed=3"
)
"""Five tasks for two processes: shares of different sizes."""

STRATEGIES = {
    "alone": ("one_process", ()),
    "ddp": ("multi_cpu", ()),
    "sharded": ("multi_gpu", ("shard_weights=true",)),
    "fsdp2": ("fsdp2", ()),
    "zero1": ("deepspeed_zero1", ()),
    "zero2": ("deepspeed_zero2", ()),
    "zero2_offload": ("deepspeed_zero2_offload", ()),
    "zero3": ("deepspeed_zero3", ()),
    "zero3_offload": ("deepspeed_zero3_offload", ()),
}
"""Launcher config, which on a machine without GPU starts processes on the CPU, and overrides."""

TWO = ("--num_processes", "2")


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


def wait_for(happened: Callable[[], bool], is_running: Callable[[], bool]) -> None:
    until = time.monotonic() + 400  # the first start of DeepSpeed compiles, and the machine may be busy
    while not happened():
        assert is_running(), "the run ended before the moment came"
        assert time.monotonic() < until


def saved_at(state: Path) -> int | None:
    """When the state was saved last, if it ever was."""
    return state.stat().st_mtime_ns if state.exists() else None


def skip_without_deepspeed(strategy: str) -> None:
    if strategy.startswith("zero"):
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install '.[deepspeed]'")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert call("train", "--problem", "clutrr", "--output", folder, *OVERRIDES).code == 0
    return folder


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "alone"])
def test_two_processes_train_as_one(strategy, alone, tmp_path):
    skip_without_deepspeed(strategy)
    config, overrides = STRATEGIES[strategy]
    arguments = ("--problem", "clutrr", "--output", tmp_path / "run", *OVERRIDES, *overrides)
    result = ended(launch(*arguments, config=config, options=TWO))
    assert result.code == 0, result.err
    assert_same_training(alone, tmp_path / "run")
    assert result.out.count("2 processes") == result.out.count("Checkpoint, summary and plots") == 1
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["processes"] == 2


def test_two_machines_train_as_one(alone, tmp_path):
    port, arguments = free_port(), ("--problem", "clutrr", "--output", tmp_path / "run", *OVERRIDES)
    machines = []
    for rank in ("0", "1"):
        options = (*TWO, "--machine_rank", rank, "--main_process_ip", "127.0.0.1", "--main_process_port", port)
        machines.append(launch(*arguments, config="multi_node", options=options))
    results = [ended(machine) for machine in machines]
    assert [result.code for result in results] == [0, 0], results
    assert_same_training(alone, tmp_path / "run")
    assert [result.out.count("2 processes") for result in results] == [1, 0]


def test_configs_of_one_process_train_as_one(alone, tmp_path):
    started = {}
    for config in ("one_process", "cpu", "single_gpu"):  # the last takes the CPU if there is no GPU
        started[config] = launch("--problem", "clutrr", "--output", tmp_path / config, *OVERRIDES, config=config)
    for config, process in started.items():
        result = ended(process)
        assert result.code == 0, result.err
        assert "Traceback" not in result.err
        assert_same_training(alone, tmp_path / config)


@pytest.mark.parametrize(
    "strategies",
    [("ddp", "alone"), ("sharded", "alone", "fsdp2"), ("zero2", "alone", "zero3"), ("zero3", "alone", "zero1")],
    ids=" then ".join,
)
def test_a_killed_run_goes_on_with_other_processes(strategies, alone, tmp_path):
    run, arguments = tmp_path / "run", (*OVERRIDES, *STRATEGIES[strategies[0]][1])
    state = run / "resume" / "reckoning.pt"

    def begin(strategy: str) -> Training:
        skip_without_deepspeed(strategy)
        config, number = STRATEGIES[strategy][0], 1 if strategy == "alone" else 2
        return Training(tmp_path, config, number, "--problem", "clutrr", "--output", run, *arguments)

    for strategy in strategies[:-1]:
        before, training = saved_at(state), begin(strategy)
        wait_for(lambda before=before: saved_at(state) != before, training.is_running)
        training.kill()
        assert not (run / "resume" / "reckoning.json").exists()
        arguments = ("--resume",)
    result = begin(strategies[-1]).ended()
    assert result.code == 0, result.err
    assert_same_training(alone, run)


def test_ctrl_c_stops_all_after_a_step_and_is_answered_once(tmp_path):
    run, steps = tmp_path / "run", 2000
    arguments = last_of_each(*OVERRIDES, f"reckoning.steps={steps}", "reckoning.validate_every=1000")
    process = launch(
        "--problem", "clutrr", "--output", run, *arguments, config="multi_cpu", options=TWO, start_new_session=True
    )
    state = run / "resume" / "reckoning.pt"
    wait_for(state.exists, lambda: process.poll() is None)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    result = ended(process)
    assert result.code != 0
    said = [line for line in result.err.splitlines() if "stopped at outer step" in line]
    assert len(said) == 1
    assert said[0].startswith("reckoning: stopped at outer step ")
    assert "Go on with: " in said[0]
    assert (result.out + result.err).count("Stopping after this step") == 1
    assert "KeyboardInterrupt" not in result.err
    step = int(said[0].split("outer step ")[1].split(f" of {steps}")[0])
    assert torch.load(state, weights_only=True)["counts"]["reasoning"] == step


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("reckoning.tasks_per_step=1", "reckoning.tasks_per_step=1 leaves some of 2 processes without a task"),
        ("inner.stepz=3", "inner.steps"),
    ],
)
def test_bad_input_is_said_once(override, says, tmp_path):
    arguments = ("--problem", "clutrr", "--output", tmp_path / "run", *last_of_each(*OVERRIDES, override))
    result = Training(tmp_path, "multi_cpu", 2, *arguments).ended()
    assert result.code != 0
    assert result.err.count("error: ") == 1
    assert says in result.err
    assert not (tmp_path / "run").exists()
