"""Each further problem from its data through training, evaluation and an answer."""

import json

import pytest
from launching import METHODS, call, printed

SMALL = [
    *("model.width=16", "model.layers=1", "model.heads=2", "inner.steps=2", "reckoning.validate_every=20"),
    *("reckoning.steps=20", "in_context.steps=2", "no_facts.steps=2", "evaluation.tasks_per_batch=64"),
    *(f"{method}.{option}" for method in METHODS for option in ("tasks_per_step=4", "warmup_steps=1")),
]
PROBLEMS = {
    "folio": ("folio/*.jsonl", (), {"3", "8"}),
    "babi": ("babi/en/qa1[_5]*.txt", ("data.tasks=[1,15]",), {"1", "2"}),
    "letters": ("", ("data.letters_per_fact=4", "data.validation_tasks=5", "data.test_tasks=6"), {"8"}),
}
"""Its files in ``shared/data``, options, and the hops of its test."""

FACTS = {
    "folio": ("All birds can sing.", "Bo is a bird.", "Bo can sing."),
    "babi": ("1 Mary moved to the garden.", "2 Daniel went to the kitchen.", "Where is Mary?"),
    "letters": ("a b c c", "c d e f", "What is the most frequent letter ?"),
}
"""Two facts and a question."""


def beginnings(shared, files, folder):
    """The first 60 lines of each file, four or five stories of bAbI and some twenty sets of premises of FOLIO."""
    folder.mkdir()
    for file in (shared / "data").glob(files):
        (folder / file.name).write_text("".join(file.read_text().splitlines(keepends=True)[:60]))
    return folder


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_from_its_data_to_an_answer(name, shared, tmp_path):
    files, options, hops = PROBLEMS[name]
    data = ("--data", beginnings(shared, files, tmp_path / "data")) if files else ()
    run = tmp_path / "run"
    result = call("train", "--problem", name, "--output", run, *data, *SMALL, *options)
    assert (result.code, result.said) == (0, []), result.err
    summary = json.loads((run / "summary.json").read_text())
    accuracy = summary["label_accuracy"]["reckoning"]["test"]
    assert set(accuracy) == hops
    assert summary["methods"]["reckoning"]["steps"] == 20

    evaluated = call("evaluate", "--problem", name, "--checkpoint", run / "checkpoint", *data)
    assert (evaluated.code, evaluated.said) == (0, [])
    assert printed(evaluated.out)["test"] == {count: f"{100 * share:.1f}" for count, share in accuracy.items()}

    *facts, question = FACTS[name]
    (tmp_path / "facts.txt").write_text("\n".join(facts))
    asked = ("--checkpoint", run / "checkpoint", "--facts", tmp_path / "facts.txt", "--question", question)
    answered = call("ask", *asked)
    assert answered.code == 0
    assert answered.out.splitlines()[-1].startswith(f"{question}  ")
    assert not any(word in answered.err for word in ("letter", "Mary", "garden", "can"))  # the model knows them
