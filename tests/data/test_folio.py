"""Reading FOLIO: small files of its formats, the published training file, and data sets of Hugging Face."""

import re
from collections import Counter
from itertools import product

import pytest
from folio_files import row, write

from reckoning_betty.data.folio import read_folio, read_folio_tests
from reckoning_betty.errors import UserError
from reckoning_betty.models.word_tokenizer import word_tokenizer

FACTS = {"All friends of Ann0 sing.", "Bob0 is a friend of Ann0."}


@pytest.fixture
def folder(tmp_path):
    """Twenty sets of premises with three conclusions each, and two more for validation in that file's form."""
    write(tmp_path / "folio-train.jsonl", [row(n, k) for n in range(20) for k in range(3)])
    public = {"story_id": ..., "example_id": ..., "source": ...}
    rows = [row(n, k, **public, label=["True", "False", "Uncertain"][k]) for n in (30, 31) for k in range(3)]
    write(tmp_path / "folio-validation.jsonl", rows)
    return tmp_path


def premises(tasks):
    return {frozenset(task.facts) for task in tasks}


def trained(splits, steps=1, count=200):
    return [task for step in range(steps) for task in splits.train.draw(step, count)]


def test_a_row(tmp_path):
    (task,) = read_folio_tests(write(tmp_path / "a.jsonl", [row()]))
    assert task.facts == ("All friends of Ann0 sing.", "Bob0 is a friend of Ann0.")
    (question,) = task.questions
    assert (question.text, question.answer) == ("Bob0 sings.", "true")
    assert (question.hops, question.relevant) == (2, (0, 1))
    assert task.identifier == "folio-0-0"


def test_the_validation_file_is_the_test_and_validation_is_set_aside_by_premises(folder):
    splits = read_folio(folder)
    assert [task.questions[0].answer for task in splits.test] == ["true", "false", "unknown"] * 2
    assert splits.test[0].identifier == f"{folder / 'folio-validation.jsonl'}, line 1"
    assert splits.test == read_folio_tests(folder)
    assert len(splits.validation) == 2 * 3
    parts = [premises(trained(splits)), premises(splits.validation), premises(splits.test)]
    assert [len(part) for part in parts] == [18, 2, 2]
    assert len(frozenset().union(*parts)) == 22
    assert len(read_folio(folder, validation_fraction=0.5).validation) == 10 * 3


def test_training_rows_alone_give_all_three_parts(folder):
    (folder / "folio-validation.jsonl").unlink()
    splits = read_folio(folder, test_fraction=0.2)
    parts = [premises(trained(splits)), premises(splits.validation), premises(splits.test)]
    assert [len(part) for part in parts] == [14, 2, 4]
    assert len(frozenset().union(*parts)) == 20
    assert splits.test == read_folio_tests(folder, test_fraction=0.2)
    assert splits.test == read_folio_tests(folder / "folio-train.jsonl", test_fraction=0.2)
    other_seed = read_folio(folder, test_fraction=0.2, seed=1)
    assert (other_seed.validation, other_seed.test) == (splits.validation, splits.test)
    assert read_folio(folder, test_fraction=0.2, validation_fraction=0.3).test == splits.test


def test_what_a_test_file_is_for(folder):
    write(folder / "mine_test.jsonl", [row(40)])
    splits = read_folio(folder)
    assert len(splits.test) == 1
    assert len(splits.validation) == 6
    assert len(premises(trained(splits))) == 20


def test_a_file_whose_name_tells_no_split_is_trained_on_or_evaluated_whole(folder):
    path = write(folder / "mine.jsonl", [row(n, k) for n in range(10) for k in range(3)])
    assert len(read_folio_tests(path)) == 30
    splits = read_folio(path)
    assert [len(part) for part in (premises(trained(splits)), splits.validation, splits.test)] == [8, 3, 3]


def test_premises_of_the_test_are_left_out_of_training(folder, caplog):
    rows = [row(n, k) for n in range(20) for k in range(3)]
    reversed_premises = row(30)["premises"][::-1]
    write(folder / "folio-train.jsonl", [*rows, row(30, 1, premises=reversed_premises)])
    splits = read_folio(folder)
    assert "1 training rows of" in caplog.text
    assert not premises(trained(splits)) & premises(splits.test)
    assert len(premises(trained(splits)) | premises(splits.validation)) == 20


def test_every_premise_set_has_one_side_where_there_are_three_files(folder):
    write(folder / "folio-test.jsonl", [row(30), row(0)])
    splits = read_folio(folder)
    parts = [premises(trained(splits)), premises(splits.validation), premises(splits.test)]
    assert [len(part) for part in parts] == [19, 1, 2]
    assert len(frozenset().union(*parts)) == 22
    write(folder / "folio-train.jsonl", [row(0, 1)])
    with pytest.raises(UserError, match="has no training rows"):
        read_folio(folder)


def test_conclusions_about_the_same_premises_are_one_task_in_training(folder):
    other_order = row(5)["premises"][::-1]
    rows = [row(n, k, premises=other_order) if (n, k) == (5, 2) else row(n, k) for n, k in product(range(20), range(3))]
    write(folder / "folio-train.jsonl", [*rows, row(7, 1)])  # and one conclusion stands there twice
    tasks = trained(read_folio(folder), count=18)
    assert len(tasks) == len(premises(tasks)) == 18
    for task in tasks:
        assert [question.answer for question in task.questions] == ["true", "false", "unknown"]
        assert {question.relevant for question in task.questions} == {(0, 1)}


def test_premises_stand_in_another_order_at_every_visit(folder):
    lines = [f"Fact {letter}." for letter in "abcdef"]
    write(folder / "folio-train.jsonl", [row(n, premises=[f"Story {n}.", *lines]) for n in range(3)])
    splits = read_folio(folder)
    visits = trained(splits, steps=20, count=2)
    assert len({task.facts for task in visits}) == len(visits)
    assert len(premises(visits)) == 2
    assert splits.train.draw(7, 2) == read_folio(folder).train.draw(7, 2)
    assert splits.train.draw(7, 2) != read_folio(folder, seed=1).train.draw(7, 2)
    assert splits.validation[0].facts[1:] == tuple(lines)


@pytest.mark.parametrize(
    "given",
    [
        "All friends of Ann0 sing. \nBob0 is a friend of Ann0.",
        "All friends of Ann0 sing.\r\n\n Bob0 is a friend of Ann0.\n",
        ["All friends of Ann0 sing.", " ", "Bob0 is a friend of Ann0.", ""],
    ],
)
def test_premises_as_one_text_and_blank_ones(tmp_path, given):
    (task,) = read_folio_tests(write(tmp_path / "a.jsonl", [row(premises=given)]))
    assert set(task.facts) == FACTS
    assert task.questions[0].hops == 2


@pytest.mark.parametrize(
    ("label", "answer"),
    [("True", "true"), ("False", "false"), ("Unknown", "unknown"), ("Uncertain", "unknown"), (" true ", "true")],
)
def test_labels(tmp_path, label, answer):
    (task,) = read_folio_tests(write(tmp_path / "a.jsonl", [row(label=label)]))
    assert task.questions[0].answer == answer


def test_labels_as_booleans(tmp_path):
    path = write(tmp_path / "a.jsonl", [row(label=True), row(label=False)])
    assert [task.questions[0].answer for task in read_folio_tests(path)] == ["true", "false"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": "Maybe"}, "column label: 'Maybe' is no label, allowed are True, False and Uncertain"),
        ({"label": None}, "column label: 'None' is no label"),
        ({"conclusion": " "}, "column conclusion: ' ' is no text, or an empty one"),
        ({"conclusion": 3}, "column conclusion: '3' is no text"),
        ({"premises": []}, "column premises: there are none, at least one is needed"),
        ({"premises": " \n"}, "column premises: there are none"),
        ({"premises": ["x", 3]}, "column premises: \"['x', 3]\" is neither a list of texts nor a text"),
        ({"premises": {"a": "b"}}, "column premises: \"{'a': 'b'}\" is neither"),
    ],
)
def test_malformed_rows(tmp_path, changed, message):
    path = write(tmp_path / "a.jsonl", [row(1), row(2), row(**changed)])
    with pytest.raises(UserError, match=re.escape(f"{path}, line 3, {message}")):
        read_folio_tests(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"premises": ["a"],', 'line 3: \'{"premises": ["a"],\' is no JSON object'),
        (
            "[1, 2]",
            "line 3: '[1, 2]' is no JSON object; a line of FOLIO's format is one with premises, conclusion, label",
        ),
        ("[" * 100_000, "is no JSON object"),
        (
            '{"text": 1}',
            "line 3: columns that FOLIO's format needs are missing: premises, conclusion, label (found: text)",
        ),
    ],
)
def test_malformed_lines(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", [row()])
    path.write_text(path.read_text() + "\n" + line, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(message)):
        read_folio_tests(path)


def test_what_cannot_be_read(folder):
    with pytest.raises(UserError, match=r"folio-trian\.jsonl was not found \(in .* there are: folio-train\.jsonl"):
        read_folio(folder / "folio-trian.jsonl")
    with pytest.raises(UserError, match="has no training rows"):
        read_folio(folder / "folio-validation.jsonl")
    write(folder / "empty.jsonl", [])
    with pytest.raises(UserError, match="holds no rows"):
        read_folio(folder / "empty.jsonl")
    (folder / "folio-train.jsonl").write_bytes(b'{"premises": "\xff"}')
    with pytest.raises(UserError, match=r"folio-train\.jsonl, line 1: not UTF-8"):
        read_folio(folder)
    (folder / "above" / "below").mkdir(parents=True)
    write(folder / "above" / "below" / "dev.jsonl", [row()])
    with pytest.raises(UserError, match=r"above holds no FOLIO files itself; .* does: .*above/below\."):
        read_folio(folder / "above")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_fraction": 0}, "data.validation_fraction=0"),
        ({"test_fraction": 1.0}, "data.test_fraction=1.0"),
        ({"validation_fraction": 0.6, "test_fraction": 0.4}, "data.test_fraction=0.4 .* leaves nothing to train on"),
    ],
)
def test_impossible_options(folder, options, message):
    with pytest.raises(UserError, match=message):
        read_folio(folder, **options)
    with pytest.raises(UserError, match=message):
        read_folio_tests(folder, **options)


def test_too_few_premise_sets(tmp_path):
    path = write(tmp_path / "train.jsonl", [row(n, k) for n in range(2) for k in range(3)])
    with pytest.raises(UserError, match=r"premise sets \(2\): test and validation take one each, so 3 are needed"):
        read_folio(path)


def test_a_data_set_of_the_library(tmp_path):
    """The hub's rows: premises as one text, one label Uncertain."""
    datasets = pytest.importorskip("datasets")
    rows = [row(n, k, premises="\n".join(row(n)["premises"])) for n in range(5) for k in range(3)]
    tables = {"train": datasets.Dataset.from_list(rows), "validation": datasets.Dataset.from_list(rows[:0:-6])}
    datasets.DatasetDict(tables).save_to_disk(str(tmp_path / "saved"))
    splits = read_folio(tmp_path / "saved")
    assert len(splits.test) == 3
    assert len(premises(trained(splits))) + len(premises(splits.validation)) + len(premises(splits.test)) == 5
    datasets.DatasetDict({"train": tables["train"].remove_columns("label")}).save_to_disk(str(tmp_path / "less"))
    with pytest.raises(UserError, match=r"less, train: columns .* are missing: label"):
        read_folio(tmp_path / "less")


# the published training file


@pytest.fixture(scope="module")
def published(shared):
    return read_folio(shared / "data/folio")


def test_every_published_row_is_read(published):
    asked = [q for task in trained(published, count=272) for q in task.questions]
    evaluated = [task.questions[0] for task in (*published.validation, *published.test)]
    assert len(asked) + len(evaluated) == 1004 - 1  # one conclusion stands twice under its premises in training
    assert Counter(q.answer for q in (*asked, *evaluated)) == {"true": 388, "false": 286 - 1, "unknown": 330}


def test_no_published_premises_are_on_two_sides(published):
    parts = [premises(trained(published, count=272)), premises(published.validation), premises(published.test)]
    assert [len(part) for part in parts] == [272, 34, 34]
    assert len(frozenset().union(*parts)) == 340
    assert all(answer in ("true", "false", "unknown") for answer in answers_of(published.test))
    assert min(Counter(answers_of(published.test)).values()) > 20


def answers_of(tasks):
    return [task.questions[0].answer for task in tasks]


def test_the_tokenizer_knows_every_published_word(published):
    tokenizer = word_tokenizer(published.vocabulary)
    for task in (*trained(published, count=272), *published.validation, *published.test):
        texts = [*task.facts, *(text for q in task.questions for text in (q.text, q.answer))]
        assert all(text == text.strip() != "" for text in texts)
        assert all(tokenizer.unk_token_id not in ids for ids in tokenizer(texts)["input_ids"])
