"""A run that was killed or stopped goes on as if it had not been, and what was saved is old or new but never half."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from launching import ROOT, TINY, call, contents, ended, last_of_each, start, start_command

from reckoning_betty.checkpoint import recover_folder, replace_file, replace_folder
from reckoning_betty.training.engine import TrainingEngine
from reckoning_betty.training.run import StopOnCtrlC

COMMAND = ("--problem", "clutrr", *TINY)
LONG = (
    *(key for key in COMMAND if not key.startswith(("save_every", "reckoning.steps", "reckoning.validate_every"))),
    *("save_every=3", "reckoning.steps=48", "reckoning.validate_every=8"),
    *("evaluation.tasks_per_batch=4", "evaluation.max_answer_tokens=2"),
)
"""Many saves and validations, and a report long enough to be killed in."""

DIFFERENT = ("seconds", "training_seconds", "tasks_per_second", "peak_memory_mib")
"""What no two runs have in common."""


def wait_for(process: subprocess.Popen, seen: Callable[[], bool]) -> None:
    """Until ``seen()``; it polls without a pause, since some moments last a millisecond."""
    until = time.monotonic() + 400
    while not seen():
        assert process.poll() is None, "the run ended before the moment came"
        assert time.monotonic() < until


def without_measured(value):
    """A state, report or list of metrics without what is measured anew in every run."""
    if isinstance(value, dict):
        return {key: without_measured(item) for key, item in value.items() if key not in DIFFERENT}
    return [without_measured(item) for item in value] if isinstance(value, list | tuple) else value


def same(one, other) -> bool:
    """Equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def results(run: Path) -> dict:
    """All that a run leaves but times, plots and the peak of memory."""
    states = {file.name: torch.load(file, weights_only=True) for file in sorted((run / "resume").glob("*.pt"))}
    reports = {file.name: json.loads(file.read_text()) for file in sorted((run / "resume").glob("*.json"))}
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    accuracy = json.loads((run / "summary.json").read_text())["label_accuracy"]
    checkpoints = contents(run / "checkpoint") | contents(run / "baselines/no_facts")
    left = {str(file.relative_to(run)) for file in run.rglob("*")}
    return {"checkpoints": checkpoints, "left": sorted(left)} | without_measured(
        {"states": states, "reports": reports, "metrics": metrics, "accuracy": accuracy}
    )


def test_a_run_killed_five_times_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert call("train", *LONG, "baselines=[no_facts]", "--output", whole).code == 0
    said = tmp_path / "stderr"
    chance = random.Random(0)

    def in_report() -> bool:
        return "reckoning test" in said.read_text(errors="replace")

    moments = {
        "training": ((killed / "resume/reckoning.pt").exists, 0.15),
        "a save": ((killed / "resume/.reckoning.pt.new").exists, 0.0),
        "validation": (lambda: (killed / ".checkpoint.new").exists() or in_report(), 0.002),
        "the report": (in_report, 0.05),
        "the baseline": ((killed / "resume/no_facts.pt").exists, 0.02),
    }
    arguments = [*LONG, "baselines=[no_facts]", "--output", killed]
    for seen, spread in moments.values():
        with open(said, "w") as handle:
            process = start("train", *arguments, stderr=handle)
            wait_for(process, seen)
            time.sleep(chance.uniform(0, spread))
            process.kill()
            assert process.wait() == -signal.SIGKILL
        arguments = ["--problem", "clutrr", "--output", killed, "--resume"]
    result = call("train", *arguments)
    assert (result.code, result.said) == (0, [])
    one, other = results(whole), results(killed)
    for part in one:
        assert same(one[part], other[part]), part
    assert one["states"]["reckoning.pt"]["global_step"] == 96
    assert len(one["metrics"]) == 5 + 6 + 1 + 2


def test_ctrl_c_saves_and_prints_the_command_that_goes_on(tmp_path):
    run = tmp_path / "a run"
    process = start(
        "train", "--problem", "clutrr", *last_of_each(*LONG[2:], "reckoning.steps=24", "baselines=[]"), "--output", run
    )
    wait_for(process, (run / "resume/reckoning.pt").exists)
    process.send_signal(signal.SIGINT)
    stopped = ended(process)
    assert stopped.code == 130
    assert "Traceback" not in stopped.err
    assert not (run / "summary.json").exists()
    sentence = stopped.said[-1]
    assert sentence.startswith("reckoning: stopped at outer step ")
    step = int(sentence.split("outer step ")[1].split(" of 24")[0])
    assert torch.load(run / "resume/reckoning.pt", weights_only=True)["counts"]["reasoning"] == step

    command = shlex.split(sentence.split("Go on with: ")[1])
    resumed = ended(start_command(command, cwd=ROOT))
    assert resumed.code == 0, resumed.err
    assert json.loads((run / "summary.json").read_text())["methods"]["reckoning"]["steps"] == 24


def test_the_same_ctrl_c_from_two_senders_is_one_and_a_later_one_stops_at_once(monkeypatch):
    with StopOnCtrlC(is_main=False) as stop:
        assert stop.asked_at is None
        signal.raise_signal(signal.SIGINT)
        asked_at = stop.asked_at
        signal.raise_signal(signal.SIGINT)
        assert stop.asked_at == asked_at is not None
        monkeypatch.setattr(time, "monotonic", lambda: asked_at + 2.5)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_resuming_a_finished_run_changes_nothing(trained, run_copy):
    before = contents(run_copy)
    result = call("train", "--problem", "clutrr", "--output", run_copy, "--resume")
    assert result.code == 0
    assert contents(run_copy) == before
    assert result.out.replace(str(run_copy), "") == trained[0].out.replace(str(trained[1]), "")


def test_metrics_of_a_run_killed_before_its_first_save_are_not_told_twice(trained, run_copy):
    shutil.rmtree(run_copy / "resume")
    (run_copy / "summary.json").unlink()
    with open(run_copy / "metrics.jsonl", "a") as handle:
        handle.write('{"method": "no_facts", "st')  # a line that the kill cut short
    assert call("train", "--problem", "clutrr", "--output", run_copy, "--resume").code == 0
    assert same(results(run_copy), results(trained[1]))


def test_a_run_stopped_at_the_validation_that_ends_it_early_does_not_train_on(tmp_path, monkeypatch):
    validations = []

    def stop_at_the_second(engine):
        validations.append(engine.outer.count)
        if len(validations) == 2:
            signal.raise_signal(signal.SIGINT)
        return {"score": 0.0}

    trained_options = ("method=no_facts", "baselines=[]", "no_facts.patience=1", "no_facts.validate_every=3")
    options = [key for key in COMMAND if not key.startswith("no_facts.validate_every")]
    with monkeypatch.context() as patch:
        validate = TrainingEngine.validation
        patch.setattr(TrainingEngine, "validation", lambda engine: validate(engine) | stop_at_the_second(engine))
        assert call("train", *options, *trained_options, "--output", tmp_path / "run").code == 130
    assert call("train", "--problem", "clutrr", "--output", tmp_path / "run", "--resume").code == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["methods"]["no_facts"]["steps"] == 6


class Killed(BaseException):
    """Stands for the end of the process: nothing handles it."""


def killed_at(monkeypatch, module, function: str, call_number: int) -> None:
    """Let the given call of ``module.function`` be the process's last deed, undone."""
    calls, original = iter(range(1, 100)), getattr(module, function)

    def dying(*args, **options):
        if next(calls) == call_number:
            raise Killed
        return original(*args, **options)

    monkeypatch.setattr(module, function, dying)


@pytest.mark.parametrize(
    ("module", "function", "number"), [(os, "replace", 1), (os, "replace", 2), (shutil, "rmtree", 2)]
)
@pytest.mark.parametrize("again", [False, True])
def test_a_folder_whose_replacement_is_killed_is_the_old_or_the_new_one(
    tmp_path, monkeypatch, module, function, number, again
):
    folder = tmp_path / "checkpoint"

    def write(text):
        return lambda new: [(new / name).write_text(text) for name in ("a", "b")]

    def held() -> dict[str, bytes]:
        return contents(folder)

    replace_folder(folder, write("old"))
    with monkeypatch.context() as patch:
        killed_at(patch, module, function, number)
        with pytest.raises(Killed):
            replace_folder(folder, write("new"))
    if again:
        replace_folder(folder, write("newest"))
        assert held() == {"a": b"newest", "b": b"newest"}
        assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]
    recover_folder(folder)
    assert held() in ({"a": text, "b": text} for text in (b"old", b"new", b"newest"))
    assert held()["a"] == (b"newest" if again else b"new" if module is shutil else b"old")


def test_a_folder_killed_while_it_is_written_stays_the_old_one(tmp_path):
    folder = tmp_path / "checkpoint"
    replace_folder(folder, lambda new: (new / "a").write_text("old"))

    def die(new):
        (new / "a").write_text("half")
        raise Killed

    with pytest.raises(Killed):
        replace_folder(folder, die)
    recover_folder(folder)
    assert contents(folder) == {"a": b"old"}


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_file_whose_replacement_is_killed_stays_the_old_one(tmp_path, monkeypatch, function):
    file = tmp_path / "state.pt"
    replace_file(file, lambda new: new.write_text("old"))
    with monkeypatch.context() as patch:
        killed_at(patch, os, function, 1)
        with pytest.raises(Killed):
            replace_file(file, lambda new: new.write_text("new"))
    assert file.read_text() == "old"
    replace_file(file, lambda new: new.write_text("newest"))
    assert contents(tmp_path) == {"state.pt": b"newest"}
