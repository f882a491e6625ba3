"""Checkpoints of a run, evaluated on data of either source and asked about facts of one's own."""

import json
import re

import pytest
from launching import METHODS, call, clutrr_rows, contents, printed, write_csv

QUESTION = "How is Ada related to Alma ?"


def checkpoint_of(run, method):
    return run / "checkpoint" if method == "reckoning" else run / "baselines" / method


def evaluate(checkpoint, *options):
    return call("evaluate", "--problem", "clutrr", "--checkpoint", checkpoint, *options)


def ask(checkpoint, facts, *options):
    return call("ask", "--checkpoint", checkpoint, "--facts", facts, *options)


@pytest.mark.parametrize("method", METHODS)
def test_embedded_data_give_the_numbers_of_the_run(trained, tmp_path, method):
    before = contents(trained[1])
    result = evaluate(checkpoint_of(trained[1], method), "--output", tmp_path / "new folder/table.json")
    assert (result.code, result.said) == (0, [])
    tables = json.loads((tmp_path / "new folder/table.json").read_text())
    own = json.loads((trained[1] / f"resume/{method}.json").read_text())["label_accuracy"]
    assert tables == own
    assert {split: [row["n"] for row in table.values()] for split, table in tables.items()} == {
        "validation": [6, 6],
        "test": [5, 5, 5],
    }
    assert f"of {method} by hops" in result.out
    assert printed(result.out) == {
        split: {hops: f"{100 * table[hops]['label_accuracy']:.1f}" if hops in table else "-" for hops in "234"}
        for split, table in tables.items()
    }
    assert contents(trained[1]) == before


def test_a_file_gives_its_rows_by_hops(trained, tmp_path):
    file = write_csv(tmp_path / "rows.csv", clutrr_rows(5))
    result = evaluate(trained[1] / "checkpoint", "--data", file, "--output", tmp_path / "table.json")
    assert (result.code, result.said) == (0, [])
    tables = json.loads((tmp_path / "table.json").read_text())
    assert {hops: row["n"] for hops, row in tables["test"].items()} == {"2": 3, "3": 2}
    assert all(row["label_accuracy"] in (0, 1 / 3, 1 / 2, 2 / 3, 1) for row in tables["test"].values())


@pytest.mark.parametrize("options", [("form=sentences",), ("names=original",), ("--inner-steps", "5")])
def test_options_of_the_data_and_of_the_inner_level_are_taken(trained, tmp_path, options):
    file = write_csv(tmp_path / "rows.csv", clutrr_rows(4))
    assert evaluate(trained[1] / "checkpoint", "--data", file, *options).code == 0


def test_other_embedded_data_can_be_asked_for(trained):
    result = evaluate(trained[1] / "checkpoint", "test_hops=[5]", "test_stories=3", "validation_stories=2")
    assert result.code == 0
    assert list(printed(result.out)["test"]) == ["2", "3", "5"]


def test_right_answers_count_whatever_their_case(trained, tmp_path, monkeypatch):
    """The share is of right answers: with a model that always says "Mother", that is of the rows with that target."""
    monkeypatch.setattr("reckoning_betty.evaluation.greedy", lambda logits, prompts, *rest: [[0] for _ in prompts])
    monkeypatch.setattr(
        "transformers.PreTrainedTokenizerFast.batch_decode", lambda self, rows, **_: ["Mother."] * len(rows)
    )
    file = write_csv(tmp_path / "rows.csv", clutrr_rows(5))
    evaluate(trained[1] / "checkpoint", "--data", file, "--output", tmp_path / "table.json")
    tables = json.loads((tmp_path / "table.json").read_text())
    assert tables["test"] == {"2": {"n": 3, "label_accuracy": 1.0}, "3": {"n": 2, "label_accuracy": 0.0}}


def test_real_data_are_evaluated(shared, trained, tmp_path):
    file = shared / "data/clutrr/data_089907f8/1.3_test.csv"
    result = evaluate(trained[1] / "baselines/no_facts", "--data", file, "--output", tmp_path / "table.json")
    assert (result.code, result.said) == (0, [])
    tables = json.loads((tmp_path / "table.json").read_text())
    assert {hops: row["n"] for hops, row in tables["test"].items()} == {"3": 105}


@pytest.mark.parametrize(("options", "losses"), [((), 3), (("--inner-steps", "5"), 6)])
def test_ask_prints_the_inner_losses_and_an_answer_to_every_question(trained, facts_file, options, losses):
    other = "How is Alma related to Adam ?"
    result = ask(trained[1] / "checkpoint", facts_file, "--question", QUESTION, "--question", other, *options)
    assert (result.code, result.said) == (0, [])
    lines = result.out.splitlines()
    assert len(re.findall(r"\d+\.\d{3}", lines[1])) == losses
    assert len(lines) == 4
    assert lines[2].startswith(f"{QUESTION}  ")
    assert lines[3].startswith(f"{other}  ")
    assert all(line.split("?  ")[1] for line in lines[2:])


def test_the_first_inner_steps_are_the_same_however_many_follow(trained, facts_file):
    few, many = (
        ask(trained[1] / "checkpoint", facts_file, "--question", QUESTION, "--inner-steps", steps).out.splitlines()[1]
        for steps in (1, 2)
    )
    assert many.startswith(few)


def test_answers_may_be_as_long_as_in_the_run(trained, run_copy, facts_file, monkeypatch):
    caps = []
    monkeypatch.setattr("reckoning_betty.evaluation.greedy", lambda *given: caps.append(given[2]) or [[0]])
    assert ask(trained[1] / "checkpoint", facts_file, "--question", QUESTION).code == 0
    file = run_copy / "checkpoint/reckoning.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_answer_tokens": 3}))
    assert ask(run_copy / "checkpoint", facts_file, "--question", QUESTION).code == 0
    assert caps == [8, 3]


def test_ask_notes_the_words_that_the_model_has_never_seen(trained, facts_file):
    facts_file.write_text("Zorg is the mother of Adam .\n")
    result = ask(trained[1] / "checkpoint", facts_file, "--question", "How is Zorg related to Blim ?")
    assert result.code == 0
    assert result.said == ["note: the model has never seen Zorg, Blim, and reads each as unknown."]


@pytest.mark.parametrize("method", ["in_context", "no_facts"])
def test_ask_takes_a_baseline_which_has_no_inner_losses(trained, facts_file, method):
    result = ask(trained[1] / "baselines" / method, facts_file, "--question", QUESTION)
    assert (result.code, result.said) == (0, [])
    assert len(result.out.splitlines()) == 1
    assert result.out.startswith(f"{QUESTION}  ")


def test_a_question_that_nearly_fills_the_context_is_answered(trained, tmp_path):
    facts = tmp_path / "facts.txt"
    facts.write_text("Ada is the mother of Adam .\n")
    for length in (62, 63, 64):
        result = ask(trained[1] / "checkpoint", facts, "--question", "Ada " * length)
        assert result.code == 0, result.err


def test_a_checkpoint_is_found_from_within(trained, facts_file, monkeypatch):
    monkeypatch.chdir(trained[1] / "checkpoint")
    assert ask(".", facts_file, "--question", QUESTION).code == 0
