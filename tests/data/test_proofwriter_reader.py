"""Reading ProofWriter in its three formats, by folder, file and hub name."""

import json

import pytest
from proofwriter_files import flat_row, meta_row, option_row, questions, theory, write

from reckoning_betty.data.proofwriter import read_proofwriter, read_proofwriter_tests
from reckoning_betty.data.proofwriter.parsing import parse
from reckoning_betty.errors import UserError


def rows_of(make, numbers, which=range(5)):
    return [make(number, one) for number in numbers for one in which]


def told(task):
    return frozenset(map(parse, task.facts))


@pytest.mark.parametrize("suffix", ["json", "jsonl", "json.gz", "jsonl.gz"])
@pytest.mark.parametrize("make", [option_row, flat_row])
def test_rows(tmp_path, suffix, make):
    path = write(tmp_path / f"x_test.{suffix}", rows_of(make, [3]))
    tasks = read_proofwriter_tests(path, min_relevant=1)
    expected = [question for question in questions(theory(3)[1]) if question[3] >= 1]
    found = [
        (q.text.replace(" .", "."), q.answer.capitalize(), q.hops, len(q.relevant))
        for q in (task.questions[0] for task in tasks)
    ]
    assert found == expected
    assert len(read_proofwriter_tests(path)) == 3
    (smart,) = (task for task in tasks if task.questions[0].text.endswith("smart ."))
    assert sorted(smart.facts) == [
        "All redish people are nice .",
        "Erin is redish .",
        "Erin is young .",
        "If someone is nice and young then they are smart .",
    ]


def test_json_lines_end_at_newlines_alone(tmp_path):
    """JSON may hold U+2028 and U+0085 as they are, at which Python's ``splitlines`` ends a line too."""
    rows = [flat_row(number, note="so\u2028or\u0085so") for number in (1, 2)]
    path = tmp_path / "x_test.jsonl"
    path.write_bytes("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    assert [task.identifier for task in read_proofwriter_tests(path)] == ["AttNeg-OWA-D2-1", "AttNeg-OWA-D2-2"]


def test_theories_with_all_their_questions(tmp_path):
    path = write(tmp_path / "meta-test.jsonl", [meta_row(1), meta_row(2)])
    tasks = read_proofwriter_tests(path, distractors="all")
    assert [task.identifier for task in tasks[:3]] == [f"AttNeg-OWA-D2-1_Q{n}" for n in (2, 3, 4)]
    assert [task.questions[0].answer for task in tasks] == ["false", "true", "unknown"] * 2
    assert all(len(task.facts) == 6 for task in tasks)


def test_splits_of_a_folder(tmp_path):
    write(tmp_path / "meta-train.jsonl", [meta_row(n) for n in range(30)])
    write(tmp_path / "meta-dev.jsonl", [meta_row(n) for n in range(30, 35)])
    write(tmp_path / "meta-test.jsonl", [meta_row(n) for n in range(35, 39)])
    write(tmp_path / "meta-stage-train.jsonl", [{"nothing": "for us"}])
    write(tmp_path / "meta-abduct-test.jsonl", [{"nothing": "for us"}])
    splits = read_proofwriter(tmp_path)
    assert (len(splits.train.order.tasks), len(splits.validation), len(splits.test)) == (90, 15, 12)
    assert splits.test == read_proofwriter_tests(tmp_path)
    assert {"true", "false", "unknown", "because", "redish", ".", "If"} <= set(splits.vocabulary)
    words = {word for task in splits.train.draw(0, 90) for fact in task.facts for word in fact.split()}
    assert words <= set(splits.vocabulary)


def test_dev_is_the_test_where_there_is_none(tmp_path):
    write(tmp_path / "a_train.json", rows_of(option_row, range(20)))
    write(tmp_path / "a_dev.json", rows_of(option_row, range(20, 24)))
    splits = read_proofwriter(tmp_path, validation_fraction=0.2, distractors="all")
    assert (len(splits.train.order.tasks), len(splits.validation), len(splits.test)) == (48, 12, 12)
    held_out, tested = ({told(task) for task in tasks} for tasks in (splits.validation, splits.test))
    kept = {puzzle.theory for puzzle in splits.train.order.tasks}
    assert not held_out & kept
    assert not tested & (kept | held_out)
    assert len(kept) == 16
    other = read_proofwriter(tmp_path, validation_fraction=0.2, distractors="all", seed=1)
    assert {told(task) for task in other.validation} != held_out
    assert read_proofwriter(tmp_path, validation_fraction=0.001).validation


def test_no_theory_in_two_parts(tmp_path):
    write(tmp_path / "a_train.json", rows_of(option_row, range(12)))
    write(tmp_path / "a_valid.json", rows_of(option_row, range(10, 14)))
    write(tmp_path / "a_test.json", rows_of(option_row, (11, 13, 15)))
    splits = read_proofwriter(tmp_path, distractors="all")
    train = {puzzle.theory for puzzle in splits.train.order.tasks}
    assert len(train) == 10
    assert [len({told(task) for task in tasks}) for tasks in (splits.validation, splits.test)] == [2, 3]


def test_one_file(tmp_path):
    train = write(tmp_path / "a_train.json", rows_of(option_row, range(10)))
    splits = read_proofwriter(train)
    assert (splits.test, len(splits.validation), len(splits.train.order.tasks)) == ([], 3, 27)
    assert len(read_proofwriter_tests(train)) == 30
    plain = write(tmp_path / "questions.json", rows_of(option_row, range(4)))
    assert len(read_proofwriter(plain).train.order.tasks) == 9
    assert len(read_proofwriter_tests(plain)) == 12
    dev = write(tmp_path / "a_dev.json", rows_of(option_row, range(4)))
    with pytest.raises(UserError, match="has no training rows"):
        read_proofwriter(dev)


def test_distractors(tmp_path):
    path = write(tmp_path / "a_train.json", rows_of(option_row, range(20), which=[2]))
    splits = read_proofwriter(path, distractors="none,1,all")
    assert {len(task.facts) for task in splits.validation} <= {4, 5, 6}
    drawn = [task for step in range(30) for task in splits.train.draw(step, 10)]
    assert {len(task.facts) for task in drawn} == {4, 5, 6}
    visits = {}
    for task in drawn:
        assert len(task.questions[0].relevant) == 4
        visits.setdefault(task.identifier, set()).add(task.facts)
    assert all(len(told) > 3 for told in visits.values())
    later = splits.train.draw(7, 5)
    splits.train.draw(90, 2)
    assert splits.train.draw(7, 5) == later
    assert len(read_proofwriter_tests(path, distractors="1")[0].facts) == 5


def test_questions_of_our_own(tmp_path):
    path = write(tmp_path / "a_test.json", [option_row(2, 2)])
    (task,) = read_proofwriter_tests(path, distractors="all", questions_per_task=4)
    assert [question.text for question in task.questions[:2]] == ["Dave is smart .", "Dave is not smart ."]
    assert all(set(question.relevant) <= set(range(6)) for question in task.questions)
    assert {question.text.split()[-2] for question in task.questions[2:]} <= {"nice", "furry"}


def test_depths_and_least_relevant(tmp_path):
    path = write(tmp_path / "a_test.json", rows_of(option_row, [0]))
    assert [task.questions[0].hops for task in read_proofwriter_tests(path, depths=(1,))] == [1]
    assert [task.questions[0].hops for task in read_proofwriter_tests(path, min_relevant=4)] == [2]


# Hugging Face datasets


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    return datasets


def tables(datasets):
    rows = rows_of(flat_row, range(6)) + [flat_row(n, config="depth-3", id=f"three-{n}") for n in range(6, 9)]
    strange = [
        flat_row(9, config="depth-3ext-NatLang", theory="Bob went home early."),
        flat_row(9, config="depth-3ext"),
    ]
    return datasets.DatasetDict(
        {
            "train": datasets.Dataset.from_list(rows + strange),
            "validation": datasets.Dataset.from_list(rows_of(flat_row, [20])),
            "test": datasets.Dataset.from_list(rows_of(flat_row, [30, 31])),
        }
    )


def test_hub_name(monkeypatch, cache):
    """The configuration after the colon is a column of the hub's rows; without it, what cannot be read is left out."""
    calls = []

    def load_dataset(path, config):
        calls.append((path, config))
        return tables(cache)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    splits = read_proofwriter("tasksource/proofwriter")
    assert (len(splits.train.order.tasks), len(splits.validation), len(splits.test)) == (21, 3, 6)
    chosen = read_proofwriter("tasksource/proofwriter:depth-2")
    assert len(chosen.train.order.tasks) == 18
    assert calls == [("tasksource/proofwriter", None)] * 2
    with pytest.raises(UserError, match="no rows of 'depth-9'; its configurations are depth-2, depth-3, depth-3ext"):
        read_proofwriter("tasksource/proofwriter:depth-9")
    with pytest.raises(UserError, match=r"train row 34: 'Bob went home early' is none of ProofWriter's sentences"):
        read_proofwriter("tasksource/proofwriter:depth-3ext-NatLang")


def test_folder_saved_by_datasets(tmp_path, cache):
    tables(cache).save_to_disk(str(tmp_path / "saved"))
    assert len(read_proofwriter_tests(tmp_path / "saved")) == 6


def test_hub_out_of_reach(monkeypatch, cache):
    def load_dataset(path, config):
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(UserError, match=r"proofwriter cannot be opened .*\(Couldn't reach the Hub\); give a folder"):
        read_proofwriter("tasksource/proofwriter")
