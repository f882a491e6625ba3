"""Every way in which a ProofWriter file, folder or option can be wrong."""

import gzip
import re

import pytest
from proofwriter_files import flat_row, meta_row, option_row, write

from reckoning_betty.data.proofwriter import read_proofwriter, read_proofwriter_tests
from reckoning_betty.errors import UserError


def without(row, column):
    return {name: value for name, value in row.items() if name != column}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (option_row(context=""), "row 2, column context: it is empty"),
        (option_row(context=7), "row 2, column context: '7' is no text"),
        (option_row(answer="D"), "column answer: 'D' is none of the options A) True, B) False, C) Unknown"),
        (option_row(options=None), "column options: None is no list such as"),
        (option_row(options=["A) Maybe"]), "column answer: 'Maybe' is no answer, allowed are True, False and Unknown"),
        (option_row(question="What is Bob?"), "row 2: 'What is Bob?' is none of ProofWriter's sentences, such as"),
        (option_row(context="Bob is red. Bob went home."), "row 2: 'Bob went home' is none of ProofWriter's"),
        (
            option_row(answer="B"),
            "the file answers false to 'Anne is smart.', but in an open world its sentences make ",
        ),
        (without(option_row(), "answer"), "column answer: it is missing (found are: id, context, question, options)"),
        (without(option_row(), "question"), "column question: it is missing"),
        (without(flat_row(), "theory"), "column theory: it is missing (found are: id, maxD"),
        (flat_row(answer="Maybe"), "column answer: 'Maybe' is no answer"),
        (flat_row(0, 3, answer="False"), "closed-world ones (CWA) are not read"),
        (meta_row(questions=[]), "column questions: '[]' is no object"),
        (meta_row(triples={"triple1": "Bob is red."}), "column triples: 'Bob is red.' has no 'text'"),
        (meta_row(questions={"Q1": {"question": "Bob is red."}}), "Q1, column questions: it has no 'answer'"),
        (meta_row(questions={"Q3": {"question": "Bob.", "answer": True}}), "Q3: 'Bob' is none of ProofWriter's"),
        (meta_row(questions={"Q1": {"question": "Anne is smart.", "answer": 3}}), "Q1, column answer: 3 is no answer"),
        ([1, 2], "row 2: must be a JSON object with columns, not '[1, 2]'"),
    ],
)
def test_rows(tmp_path, row, message):
    path = write(tmp_path / "a_test.json", [option_row(1), row])
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_proofwriter_tests(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a_test.json", b"", r"line 1: not valid JSON \(Expecting value\)"),
        ("a_test.json", b'[{"id": 1},\n {"id": ]', r"line 2: not valid JSON"),
        ("a_test.jsonl", b'{"id": 1, "questions": {}}\n{"id": ', r"line 2: not valid JSON"),
        ("a_test.json", b'{"id": 1}', "must hold a JSON list of rows, not one dict"),
        ("a_test.json", b"[]", "holds no rows"),
        ("a_test.jsonl", b"\n\n", "holds no rows"),
        ("a_test.json", b'["\xff"]', "line 1: not UTF-8 text"),
        ("a_test.json.gz", gzip.compress(b"[]", mtime=0)[:-9], "is not a complete gzip file"),
        ("a_test.json.gz", b"[]", "is not a complete gzip file"),
    ],
)
def test_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_proofwriter_tests(tmp_path / name)


def test_missing_files(tmp_path):
    write(tmp_path / "a_test.json", [option_row()])
    with pytest.raises(UserError, match=r"b_test.json was not found \(in .* there are: a_test.json\)"):
        read_proofwriter_tests(tmp_path / "b_test.json")
    with pytest.raises(UserError, match=r"was not found \(nor was its folder"):
        read_proofwriter_tests(tmp_path / "none" / "b.jsonl")
    with pytest.raises(UserError, match="has no training rows"):
        read_proofwriter(tmp_path)


def test_folder_of_folders(tmp_path):
    for depth in (2, 3):
        (tmp_path / f"depth-{depth}").mkdir()
        write(tmp_path / f"depth-{depth}" / "meta-train.jsonl", [meta_row()])
    with pytest.raises(UserError, match=r"holds no ProofWriter files itself; give a folder below it .*depth-2"):
        read_proofwriter(tmp_path)


def test_one_theory_is_too_few(tmp_path):
    path = write(tmp_path / "a_train.json", [option_row(1, 1), option_row(1, 2)])
    with pytest.raises(UserError, match=r"too few training theories \(1\): validation takes one, so 2 are needed"):
        read_proofwriter(path)


def test_nothing_left(tmp_path):
    path = write(tmp_path / "a_train.json", [option_row(1), option_row(2)])
    with pytest.raises(UserError, match="no training rows of the proof depths"):
        read_proofwriter(path, depths=(5,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distractors": "some"}, "distractors is 'some', but it must be none, all, a number"),
        ({"questions_per_task": 0}, "questions_per_task is 0"),
        ({"min_relevant": 0}, "min_relevant is 0, but it must be 1 or more"),
        ({"depths": (-1,)}, "depths has -1"),
        ({"validation_fraction": 0}, "validation_fraction is 0"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
    ],
)
def test_impossible_options(tmp_path, options, message):
    path = write(tmp_path / "a_train.json", [option_row(1), option_row(2)])
    with pytest.raises(UserError, match=message):
        read_proofwriter(path, **options)
