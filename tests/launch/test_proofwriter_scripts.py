"""The scripts on ProofWriter, embedded and from a file: trained for seconds, evaluated, asked."""

import json

import pytest
from launching import METHODS, call

TINY = [
    *("model.width=16", "model.layers=1", "model.heads=2", "inner.steps=2", "data.sentences=8", "threads=1"),
    *("data.test_depths=[1,2,3]", "data.validation_theories=3", "data.test_theories=3", "data.distractors=none,all"),
    *(f"{method}.{option}" for method in METHODS for option in ("steps=4", "tasks_per_step=4", "warmup_steps=2")),
    *(f"{method}.validate_every=2" for method in METHODS),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proofwriter") / "run"
    result = call("train", "--problem", "proofwriter", "--output", folder, *TINY)
    assert result.code == 0, result.err
    return folder


def test_accuracy_by_depth(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["problem"] == "proofwriter"
    assert {arm: list(splits["test"]) for arm, splits in summary["label_accuracy"].items()} == {
        method: ["1", "2", "3"] for method in METHODS
    }


def test_files_are_evaluated(run, tmp_path):
    rows = [
        {
            "id": f"row-{number}",
            "context": "Bob is red. Bob is big. Red people are kind. If Bob is kind and Bob is big then Bob is cold.",
            "question": f"Is the following statement true, false, or unknown? {hypothesis}",
            "options": ["A) True", "B) False", "C) Unknown"],
            "answer": letter,
        }
        for number, (hypothesis, letter) in enumerate([("Bob is kind.", "A"), ("Bob is not cold.", "B")])
    ]
    file = tmp_path / "some_dev.json"
    file.write_text(json.dumps(rows))
    options = ("--problem", "proofwriter", "--checkpoint", run / "checkpoint", "--data", file)
    result = call("evaluate", *options, "distractors=all", "--output", tmp_path / "table.json")
    assert result.code == 0, result.err
    tables = json.loads((tmp_path / "table.json").read_text())
    assert {hops: row["n"] for hops, row in tables["test"].items()} == {"1": 1, "2": 1}
    rows[1]["answer"] = "A"
    file.write_text(json.dumps(rows))
    result = call("evaluate", *options)
    assert result.code != 0
    assert "row 2: the file answers true to 'Bob is not cold.'" in result.err
    assert "Traceback" not in result.err


def test_it_is_asked(run, tmp_path):
    facts = tmp_path / "facts.txt"
    facts.write_text("Bob is red .\nAll red people are kind .\n")
    result = call("ask", "--checkpoint", run / "checkpoint", "--facts", facts, "--question", "Bob is kind .")
    assert result.code == 0, result.err
    assert "never seen" not in result.err


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("data.distractors=few", "distractors is 'few'"),
        ("data.depths=[7]", "depths has 7"),
        ("data.test_depths=[0]", "depths has 0"),
        ("data.kinds=[attribute]", "kinds is 'attribute'"),
        ("data.negation=no", "data.negation"),
        ("data.validation_theories=0", "data.validation_theories=0 is not possible"),
        ("data.test_theories=-1", "data.test_theories=-1 is not possible"),
    ],
)
def test_bad_options(option, says, tmp_path):
    result = call("train", "--problem", "proofwriter", "--output", tmp_path / "run", option)
    assert result.code != 0
    assert says in result.err
    assert "Traceback" not in result.err
