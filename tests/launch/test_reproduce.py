"""Experiments through their script: run, found done, gone on with, refused."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from launching import TINY, call

from reckoning_betty.reproduction import running, runtime

NESTED = {}
for override in TINY:
    key, _, value = override.partition("=")
    *sections, name = key.split(".")
    place = NESTED
    for section in sections:
        place = place.setdefault(section, {})
    place[name] = yaml.safe_load(value)


@pytest.fixture
def folder(tmp_path):
    """An experiment of one arm in one setting with one seed."""
    size = {
        "seeds": [0],
        "base": NESTED | {"problem": "clutrr", "threads": 1},
        "settings": {"two": {"data": {"hops": [2]}}},
        "arms": {"RECKONING": {"method": "reckoning"}},
    }
    claims = [{"says": "Never above 100.", "kind": "at_most", "arm": "RECKONING", "points": 100}]
    made = {"title": "Made up", "source": "Nowhere.", "figure": "hops", "claims": claims, "sizes": {"small": size}}
    (tmp_path / "made.yaml").write_text(yaml.safe_dump(made, sort_keys=False))
    return tmp_path


def reproduce(folder, *arguments):
    return call("reproduce", *arguments, "--output", folder, "--runs", folder / "runs", "--workers", "1")


def test_an_experiment_is_run_reported_and_found_done(folder):
    result = reproduce(folder, "made")
    assert result.code == 0, result.err
    assert "| Never above 100. |" in result.out
    told = json.loads((folder / "results" / "made_small.json").read_text())
    assert [(row["setting"], row["arm"], row["seed"]) for row in told["rows"]] == [("two", "RECKONING", 0)]
    assert (folder / "results" / "made_small.png").read_bytes().startswith(b"\x89PNG")
    runs = sorted(folder.glob("runs/*/run/summary.json"))
    before = [file.stat().st_mtime_ns for file in runs]
    assert len(runs) == 1
    assert reproduce(folder, "made").code == 0
    assert [file.stat().st_mtime_ns for file in runs] == before
    assert reproduce(folder, "--page").code == 0
    assert "## Made up\n" in (folder / "RESULTS.md").read_text()

    runs[0].unlink()  # as a run that was stopped at its end
    (folder / "results" / "made_small.json").unlink()
    refused = reproduce(folder, "made")
    assert (refused.code, refused.said) == (2, [f"error: {folder / 'runs'} holds runs that were stopped: add --resume "
        "to go on, or name other --runs."])  # fmt: skip
    assert reproduce(folder, "made", "--resume").code == 0
    assert runs[0].is_file()

    elsewhere = ("made", "--output", folder, "--runs", folder / "elsewhere")
    assert call("reproduce", *elsewhere, "--resume").code == 0  # results hold the run
    assert not (folder / "elsewhere").exists()
    assert call("reproduce", *elsewhere).code == 0
    assert len(list(folder.glob("elsewhere/*/run/summary.json"))) == 1


def test_the_list_names_all_that_is_shipped():
    result = call("reproduce", "--list")
    assert result.code == 0
    assert "runtime " in result.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Name an experiment: made; or type --list."),
        (["other"], "There is no experiment 'other': take one of made."),
        (["made", "--size", "huge"], "--size huge: made has small."),
        (["made", "--workers", "-1"], "--workers -1 must be 0 or more; 0 takes one per core, or with a GPU one."),
        (
            ["made", "--page"],
            "argument --page: not allowed with argument name; launch/reproduce.py --help lists the options.",
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments, says, folder):
    result = call("reproduce", "--output", folder, *arguments)
    assert (result.code, result.said) == (2, [f"error: {says}"])
    assert [file.name for file in folder.iterdir()] == ["made.yaml"]


def test_a_folder_without_experiments_is_refused(tmp_path):
    for arguments in (["--list"], ["made"]):
        result = call("reproduce", *arguments, "--output", tmp_path)
        told = f"error: {tmp_path} holds no experiments, which are YAML files; name another folder or leave it out."
        assert (result.code, result.said) == (2, [told])


def test_ctrl_c_says_how_to_go_on(folder, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "time", SimpleNamespace(sleep=interrupted))
        result = reproduce(folder, "made")
    said = "Stopped; what was done is kept, and the same command with --resume goes on."
    assert (result.code, result.said[-1]) == (130, said)
    assert reproduce(folder, "made", "--resume").code == 0


def test_timings_that_were_stopped_go_on(tmp_path, monkeypatch):
    shape = {"layers": 1, "width": 16, "heads": 2, "context": 64}
    size = {
        "problem": "letters",
        "data": {"facts": 2, "letters_per_fact": 4},
        "models": {"tiny": shape},
        "inner_steps": [1, 2],
        "repeats": 1,
    }
    made = {"title": "Timed", "source": "Nowhere.", "figure": "runtime", "sizes": {"small": size}}
    (tmp_path / "timed.yaml").write_text(yaml.safe_dump(made))
    size["models"]["short"] = shape | {"context": 12}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(made))
    rest = ("timed", "--output", tmp_path, "--runs", tmp_path / "runs")
    encode = runtime.encode

    def interrupted(*given):
        if given[-1] == 2:
            raise KeyboardInterrupt
        return encode(*given)

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "encode", interrupted)
        result = call("reproduce", *rest)
    assert (result.code, result.said[-1].startswith("Stopped; what was done is kept")) == (130, True)
    kept = tmp_path / "runs" / "timed_small.json"
    refused = call("reproduce", *rest)
    assert (refused.code, refused.said) == (2, [f"error: {kept} holds timings that were stopped: add --resume to go "
        "on, or name other --runs."])  # fmt: skip
    first = json.loads(kept.read_text())["rows"]
    assert call("reproduce", *rest, "--resume").code == 0
    rows = json.loads((tmp_path / "results" / "timed_small.json").read_text())["rows"]
    assert (rows[:3], len(rows), kept.exists()) == (first, 6, False)
    assert call("reproduce", *rest).code == 0
    refused = call("reproduce", "long", *rest[1:])
    assert refused.code == 2
    assert refused.said[-1].startswith("error: A row of 16 tokens does not fit a model of 12: ")


def test_an_experiment_that_trains_what_cannot_be_says_so(folder):
    made = yaml.safe_load((folder / "made.yaml").read_text())
    made["sizes"]["small"]["base"]["inner"]["stepz"] = 3
    (folder / "made.yaml").write_text(yaml.safe_dump(made))
    result = reproduce(folder, "made")
    assert (result.code, len(result.said)) == (2, 1)
    assert "unknown key 'inner.stepz'; did you mean 'inner.steps'?" in result.said[0]


def test_a_reader_that_has_had_enough_is_no_error(request):
    """As in ``launch/reproduce.py --list | head -1``, with a reader that takes nothing."""
    command = [sys.executable, str(request.config.rootpath / "launch" / "reproduce.py"), "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as listing:
        listing.stdout.close()
        said = listing.stderr.read()
    assert (listing.returncode, said) == (0, "")
