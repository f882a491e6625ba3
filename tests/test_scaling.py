"""Throughput on several processes: what is measured is what is reported, and what cannot be is said in a sentence.

Nothing here depends on how long anything takes.
"""

import json
import os
import runpy
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from reckoning_betty.errors import NotMeasured, UserError
from reckoning_betty.scaling.cells import ONE_PROCESS, Cell, choose_cells
from reckoning_betty.scaling.launcher import Launcher, error_of, merged
from reckoning_betty.scaling.report import line_of, table, write_report
from reckoning_betty.scaling.results import Results, summarise

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "launch" / "scaling.py"
TINY = (
    *("model.width=16", "model.layers=1", "model.heads=2", "model.context=64", "inner.steps=2", "data.hops=[2,3]"),
    *("reckoning.tasks_per_step=4", "--steps", "2", "--runs", "1"),
)
SETTINGS = {
    "steps": 3,
    "tasks_per_step": 12,
    "config": {"problem": "clutrr", "model": {"name": "", "width": 8, "layers": 2}, "inner": {"steps": 4}},
}


def run_of(*seconds: float, peak: float = 900.0, above: float = 300.0, others: float = 0.25):
    """A run of two processes, of which the second takes half the memory."""
    return {
        "device": "cpu",
        "seconds": list(seconds),
        "peak_memory_mib": [peak, peak / 2],
        "memory_above_start_mib": [above, above / 2],
        "share_of_others": others,
    }


# which cells


def test_one_process_is_the_same_for_all_strategies():
    cells = choose_cells(["ddp", "zero1", "ddp"], [4, 1, 2], 16)
    assert [(cell.strategy, cell.processes) for cell in cells] == [
        (ONE_PROCESS, 1),
        *(("ddp", 2), ("zero1", 2), ("ddp", 4), ("zero1", 4)),
    ]


def test_every_number_of_processes_has_all_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert [Cell("ddp", number).threads for number in (1, 2, 3, 16)] == [8, 4, 2, 1]


@pytest.mark.parametrize(
    ("strategies", "processes", "sentence"),
    [
        (["zero9"], [1], "--strategies zero9 is not known; choose from ddp, sharded"),
        ([], [1], "choose from ddp"),
        (["ddp"], [], "give --processes 1,2"),
        (["ddp"], [0, 2], "give --processes 1,2"),
        (["ddp"], [2, 17], "--processes 17 is more than the 16 tasks per step"),
    ],
)
def test_cells_that_cannot_be_are_refused(strategies, processes, sentence, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=sentence):
        choose_cells(strategies, processes, 16)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(UserError, match="--processes 8 is more than the 4 GPUs"):
        choose_cells(["ddp"], [1, 8], 16)


# what runs come to


def test_a_step_lasts_as_long_as_for_the_slowest_process():
    one = {"device": "cpu", "seconds": [1.0, 5.0], "peak_memory_mib": 10.0, "memory_above_start_mib": 4.0}
    two = one | {"seconds": [2.0, 3.0], "memory_above_start_mib": 6.0}
    run = merged([one, two])
    assert run["seconds"] == [2.0, 5.0]
    assert run["memory_above_start_mib"] == [4.0, 6.0]


def test_rows_hold_medians_spread_and_the_ratio_to_one_process():
    # handmade: medians of the runs 2, 4, 3 and 1.5; 12 tasks
    rows = [
        {"strategy": ONE_PROCESS, "processes": 1, "runs": [run_of(2, 2, 9), run_of(4, 4, 1), run_of(3, 3, 3)]},
        {"strategy": "ddp", "processes": 2, "runs": [run_of(1.5, 1.5, 1.5, peak=700, above=100)]},
        {"strategy": "zero1", "processes": 2, "runs": []},
    ]
    summarise(rows, 12)
    assert (rows[0]["seconds"], rows[0]["seconds_min"], rows[0]["seconds_max"]) == (3, 2, 4)
    assert [row["tasks_per_second"] for row in rows] == [4, 8, None]
    assert [row["speed_up"] for row in rows] == [1, 2, None]
    assert [row["memory_above_start_mib"] for row in rows] == [300, 100, None]


def test_without_one_process_there_is_no_ratio():
    rows = [{"strategy": "ddp", "processes": 2, "runs": [run_of(1.5)]}]
    summarise(rows, 12)
    assert rows[0]["speed_up"] is None


def test_the_report_holds_the_numbers(tmp_path):
    results = Results(tmp_path / "s.json", SETTINGS)
    results.add(Cell("ddp", 2), run_of(1.5, peak=777, above=222, others=0.5))
    results.add(Cell(ONE_PROCESS, 1), run_of(3, others=0.01))
    results.refuse(Cell("zero1", 2), NotMeasured("not installed", "type: pip install it"))
    text = table(results.content)
    for expected in ("| ddp | 2 | 8 | 2.00 | 1.5 (1.5-1.5) | 777 | 222 |", "| one process | 1 | 4 | 1.00 |"):
        assert expected in text
    for expected in ("zero1, 2 processes: type: pip install it", "1% to 50% of the machine", "width 8, 2 layers, N=4"):
        assert expected in text
    assert "x 2.00" in line_of(results.rows[1])
    assert line_of(results.rows[2]).endswith("not installed: type: pip install it")
    pictures = []
    for device in ("cpu", "a GPU"):
        for row in results.rows:
            row["runs"] = [run | {"device": device} for run in row["runs"]]
        write_report(results.content, tmp_path / "s.json")
        pictures.append((tmp_path / "s.png").read_bytes())
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]  # one process has all cores of a CPU already, but one GPU


def test_runs_are_found_again_with_the_same_settings_only(tmp_path):
    file = tmp_path / "s.json"
    Results(file, SETTINGS).add(Cell("ddp", 2), run_of(1.5))
    again = Results(file, SETTINGS)
    assert (again.runs(Cell("ddp", 2)), again.runs(Cell("sharded", 2))) == (1, 0)
    with pytest.raises(UserError, match="holds other measurements"):
        Results(file, SETTINGS | {"steps": 4})
    file.write_text("[1]")
    with pytest.raises(UserError, match="holds other measurements"):
        Results(file, SETTINGS)


# what cannot be measured


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ("error: no such thing.\nTraceback\nChildFailedError: other", "failed", "no such thing."),
        ("Traceback\n[rank1]: ValueError: bad  value\n", "failed", "ValueError: bad value"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", "does not fit", "needs more memory than there is."),
        ("something\nlast words\n", "failed", "last words"),
    ],
)
def test_why_a_launch_failed_is_read_from_what_it_said(said, status, reason):
    error = error_of(said)
    assert (error.status, error.reason) == (status, reason)


def test_a_missing_package_is_answered_with_the_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    launcher = Launcher(script=SCRIPT, launchers=REPOSITORY, config=None, steps=1)
    with pytest.raises(NotMeasured, match=r"pip install '\.\[deepspeed\]'"):
        launcher.measure(Cell("zero2", 2))


# the command


def command(*arguments: object) -> None:
    """The command in this process."""
    with patch.object(sys, "argv", ["scaling.py", *map(str, arguments)]):
        runpy.run_path(str(SCRIPT))["main"]()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("scaling") / "s.json"
    command("--output", file, *TINY, "--strategies", "sharded", "threads=1")
    return file


def test_the_command_writes_rows(file):
    content = json.loads(file.read_text(encoding="utf-8"))
    assert [(row["strategy"], row["processes"]) for row in content["rows"]] == [(ONE_PROCESS, 1), ("sharded", 2)]
    for row in content["rows"]:
        assert row["status"] == "measured", row
        [run] = row["runs"]
        assert len(run["seconds"]) == 2
        assert len(run["peak_memory_mib"]) == row["processes"]
        assert row["tasks_per_second"] == pytest.approx(4 / row["seconds"])
        assert row["peak_memory_mib"] > row["memory_above_start_mib"] > 0
    assert content["settings"]["config"]["model"]["width"] == 16
    assert content["settings"]["versions"]["torch"] == torch.__version__
    assert file.with_suffix(".md").is_file()
    assert file.with_suffix(".png").is_file()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: what torch allocates on one is not measured")
def test_on_a_gpu_memory_is_what_torch_allocates(tmp_path):
    command("--output", tmp_path / "s.json", *TINY, "--processes", "1")
    [row] = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["rows"]
    assert row["runs"][0]["device"] == torch.cuda.get_device_name()
    assert 0 < row["peak_memory_mib"] < 200


def test_runs_that_are_there_are_not_made_again(file, monkeypatch):
    monkeypatch.setattr(Launcher, "measure", lambda self, cell: pytest.fail(f"measured {cell}"))
    before = json.loads(file.read_text(encoding="utf-8"))
    command("--output", file, *TINY, "--strategies", "sharded", "threads=1")
    assert json.loads(file.read_text(encoding="utf-8")) == before


def test_a_cell_that_fails_is_noted_and_not_tried_again(monkeypatch, tmp_path):
    asked = []

    def measured(self, cell):
        asked.append(cell)
        if cell.processes == 2:
            raise NotMeasured("failed", "no luck")
        return run_of(1.0, 1.0)

    monkeypatch.setattr(Launcher, "measure", measured)
    options = (*TINY[:-1], "2", "--strategies", "ddp")
    command("--output", tmp_path / "s.json", *options)
    assert asked == [Cell(ONE_PROCESS, 1), Cell("ddp", 2), Cell(ONE_PROCESS, 1)]
    rows = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["status"], row["reason"]) for row in rows] == [("measured", ""), ("failed", "no luck")]
    with pytest.raises(UserError, match="Nothing could be measured: no luck"):
        command("--output", tmp_path / "t.json", *options, "--processes", "2")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--strategies", "ddq"), "--strategies ddq is not known"),
        (("--processes", "5"), "--processes 5 is more than the 4 tasks per step"),
        (("--runs", "0"), "--runs 0 must be 1 or more"),
        (("--steps", "0"), "--steps 0 must be 1 or more"),
        (("inner.stepz=3",), "did you mean 'inner.steps'"),
        (("model.name=nowhere/at/all",), "nowhere/at/all"),
    ],
)
def test_a_wrong_option_is_answered_in_a_sentence(arguments, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        command("--output", tmp_path / "s.json", *TINY, *arguments)


def test_the_file_has_to_be_json(tmp_path):
    with pytest.raises(UserError, match=r"must end in \.json"):
        command("--output", tmp_path / "s.csv")
