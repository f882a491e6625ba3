"""``launch/compare.py`` on a tiny model: what it writes, how it goes on, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
from launching import TINY, call
from PIL import Image

from reckoning_betty.hypergradients.registry import METHODS

OPTIONS = ("--problem", "clutrr", "--steps", "4", "--seeds", "2", "--inner-steps", "1", "--validate-every", "2", *TINY)
SOME = ("--methods", "first_order,unrolled,cg", "cg.iterations=2", "cg.rates=frozen")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of three methods, and how the command ended."""
    folder = tmp_path_factory.mktemp("compare") / "some"
    return folder, call("compare", *OPTIONS, *SOME, "--output", folder)


def test_what_is_written(compared):
    folder, ended = compared
    assert (ended.code, ended.said) == (0, [])
    content = json.loads((folder / "comparison.json").read_text())
    rows = content["rows"]
    assert {(row["method"], row["inner_steps"], row["outer_step"]) for row in rows} == {
        (method, steps, point)
        for method in ("unrolled", "first_order", "cg")
        for steps in (1, 2)
        for point in (0, 2, 4)
    }
    for row in rows:
        assert row["seconds_per_step"] > 0
        assert row["peak_memory_mib"] > row["memory_above_start_mib"] > 0
        assert (row["label_accuracy"] is None) == (row["inner_steps"] != 2)
        if row["method"] == "unrolled":
            assert (row["cosine_weights"], row["relative_error_rates"]) == (1.0, 0.0)
        elif row["method"] == "cg":
            assert row["cosine_rates"] is None
            assert 0 < row["cosine_weights"] <= 1
        else:
            assert 0.9 < row["cosine_rates"] <= 1
            assert row["relative_error_weights"] > 1e-6
    for training in content["trainings"]:
        assert len(training["runs"]) == 2
        assert all(point["step"] in (2, 4) for point in training["runs"][0]["points"][:2])
        assert training["after_steps"]["step"] == 4
        assert set(training["after_seconds"]["by_hops"]) == {"2", "3", "4"}
    assert "| cg |" in (folder / "comparison.md").read_text()
    assert ended.out.startswith("Test label accuracy in %")


def test_pictures(compared):
    names = {"fidelity_against_cost.png", "accuracy_against_time.png", "error_against_inner_steps.png"}
    files = {file.name: file for file in (compared[0] / "plots").iterdir()}
    assert set(files) == names
    for file in files.values():
        with Image.open(file) as picture:
            assert picture.size[0] > 600


def test_the_same_command_goes_on(compared, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(compared[0], folder)
    units = folder / "units"
    kept = {file.name: file.read_bytes() for file in units.iterdir()}
    for name in ("cost-cg-1.json", "fidelity-first_order-2-0.json"):
        (units / name).unlink()
    (folder / "comparison.json").unlink()
    assert call("compare", *OPTIONS, *SOME, "--output", folder).code == 0
    now = {file.name: file.read_bytes() for file in units.iterdir()}
    assert now.keys() == kept.keys()
    assert {name for name in now if now[name] != kept[name]} == {"cost-cg-1.json"}  # its time is another
    before, after = (json.loads((place / "comparison.json").read_text()) for place in (compared[0], folder))
    assert before["trainings"] == after["trainings"]


def test_another_comparison_is_refused(compared):
    ended = call("compare", *OPTIONS, *SOME, "--output", compared[0], "--proximal", "2")
    assert ended.code == 2
    assert "holds another comparison" in ended.err


def test_the_list_names_every_method():
    ended = call("compare", "--list")
    assert ended.code == 0
    assert all(f"| `{name}` |" in ended.out for name in METHODS)


def test_the_readme_has_the_list():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    assert call("compare", "--list").out.strip() in readme


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--methods", "unroled"), "did you mean 'unrolled'"),
        (("--methods", "cg"), "must have unrolled"),
        (("--steps", "0"), "--steps 0 must be 1 or more"),
        (("--seeds", "0"), "--seeds 0 must be 1 or more"),
        (("--workers", "-1"), "--workers -1 must be 0 or more"),
        (("--proximal", "0"), "--proximal 0.0 must be above 0"),
        (("--inner-steps", "0,2"), "--inner-steps"),
        (("--inner-steps", "two"), "--inner-steps"),
        (("cg.iterations=0",), "iterations=0 is not possible"),
        (("cg.steps=1",), "cg has no option steps: it takes rates, iterations, alpha"),
        (("unrolled.steps=1",), "unrolled has no option steps: it has no options"),
        (("inner.stepz=3",), "inner.steps"),
        (("inner.fast_weights=looped",), "inner.fast_weights=auto"),
        (("--problem", "clutr"), "clutrr"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence(arguments, says, tmp_path):
    given = {"--problem": "clutrr"} if "--problem" not in arguments else {}
    problem = [part for pair in given.items() for part in pair]
    ended = call("compare", *problem, "--output", tmp_path / "new", *arguments)
    assert (ended.code, len(ended.said)) == (2, 1)
    assert says in ended.err
    assert not (tmp_path / "new").exists()
