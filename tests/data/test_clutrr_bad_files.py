"""Every way in which a CLUTRR file, folder or option can be wrong."""

import gzip
import itertools
import re

import pytest
from clutrr_files import COLUMNS, row, write

from reckoning_betty.data.clutrr import read_clutrr, read_clutrr_tests
from reckoning_betty.errors import UserError


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"story": ""}, "column story: it is empty"),
        ({"query": "('Tom', "}, "column query: \"('Tom', \" is no Python literal"),
        ({"query": "('Tom', 'Zoe')"}, "column query: 'Zoe' is not in the story, allowed are Tom, Ann, Eva, Lea"),
        ({"query": "('Tom', 'Tom')"}, "column query: ('Tom', 'Tom') is no pair of two people"),
        ({"query": "7"}, "column query: 7 is no list"),
        ({"target": "boss"}, "column target: 'boss' is no relation, allowed are father, mother"),
        ({"edge_types": "['sister', 'cousin', 'daughter']"}, "column edge_types: 'cousin' is no relation"),
        ({"edge_types": "['sister', 5, 'daughter']"}, "column edge_types: 5 is no relation"),
        ({"edge_types": "[]"}, "column edge_types: it names no relation"),
        ({"edge_types": "__import__('os')"}, "column edge_types: \"__import__('os')\" is no Python literal"),
        ({"edge_types": str(["son"] * 4)}, "column edge_types: it has 4 relations for 3 story_edges"),
        ({"story_edges": "[(0, 1), (1, 2), (2, 4)]"}, "(2, 4) names a person out of range, genders names 4 people"),
        ({"story_edges": "[(0, 1), (1, 2), (2, -1)]"}, "(2, -1) names a person out of range"),
        ({"story_edges": "[(0, 1), (1, 2), 3]"}, "column story_edges: 3 is no pair of numbers"),
        ({"story_edges": "[(0, 1), (1, 2), (2, 1)]"}, "column genders: it names 4 people, but story_edges connects 3"),
        ({"genders": "Tom:male,Ann:female,Eva:female,Lea"}, "column genders: 'Lea' is not of the form Name:male"),
        ({"genders": "Tom:male,Ann:female,Eva:female,Ann:female"}, "column genders: 'Ann' is named twice"),
        ({"proof_state": "[5]"}, "column proof_state: 5 is not of the form {conclusion: [premise, premise]}"),
        ({"proof_state": "[{('Tom', 'son'): [1]}]"}, "column proof_state: ('Tom', 'son') is not of the form"),
        ({"proof_state": "[{('Tom', 'son', 'Eva'): []}]"}, "column proof_state: [] is no list of premises"),
        (
            {"proof_state": "[{('Tom', 'son', 'Eva'): [('Tom', 'wife', 'Eva')]}]"},
            "column proof_state: ('Tom', 'wife', 'Eva') is used, but neither given by edge_types nor proved",
        ),
        (
            {"proof_state": "[{('Tom', 'son', 'Eva'): [('Tom', 'son', 'Eva')]}]"},
            "column proof_state: ('Tom', 'son', 'Eva') is used, but neither",
        ),
        ({"task_split": "exam"}, "column task_split: 'exam' is no split; allowed are train"),
    ],
)
def test_malformed_rows(tmp_path, changed, message):
    """The bad row is the third and starts on line 5, since the story of the second takes two lines."""
    rows = [row(1), row(2, story=row(2)["story"].replace("ran. ", "ran.\n")), row(**changed)]
    path = write(tmp_path / "bad.csv", rows)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_clutrr_tests(path)
    assert str(caught.value).startswith(f"{path}, line 5, column ")
    assert str(caught.value).endswith(".")


def test_people_missing_from_the_sentences(tmp_path):
    path = write(tmp_path / "bad.csv", [row(story="[Tom] and his sister [Ann] ran.")])
    with pytest.raises(UserError, match=r"column query: 'Lea' does not occur in the story, .* found are: Ann, Tom"):
        read_clutrr_tests(path, form="sentences")
    assert len(read_clutrr_tests(path)) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"id,story,query\n1,2,3\n", "line 1: columns .* missing: target, story_edges, edge_types, genders"),
        ("a.csv", "stör".encode("latin-1"), "line 1: not UTF-8"),
        ("a.csv", b"id\nx\n\xff", "line 3: not UTF-8"),
        ("a.csv", b"%PDF-1.4 binary\n1\n", "line 1: columns .* are missing"),
        ("a.csv.gz", b"id,story", "is not a complete gzip file"),
        ("a.csv.gz", gzip.compress(b"id,story,query\n" * 99, mtime=0)[:-12], "is not a complete gzip file"),
        ("a.csv.gz", gzip.compress(bytes(range(256)) * 50, mtime=0)[:40] + b"?" * 200, "is not a complete gzip file"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_clutrr_tests(tmp_path / name)


def test_rows_that_are_no_csv(tmp_path):
    path = write(tmp_path / "a.csv", [row(1), row(2)])
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + "1,2,3\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"line 4: has 3 cells, but the header names {len(COLUMNS)} columns"):
        read_clutrr_tests(path)
    path.write_text(whole + '1,"open', encoding="utf-8")
    with pytest.raises(UserError, match="line 4: not valid CSV"):
        read_clutrr_tests(path)
    path.write_text(whole.splitlines()[0] + "\n\n", encoding="utf-8")
    with pytest.raises(UserError, match="holds no rows"):
        read_clutrr_tests(path)
    path.write_text("\ufeff" + whole, encoding="utf-8")
    assert len(read_clutrr_tests(path)) == 2


def test_missing_paths(folder):
    with pytest.raises(UserError, match=r"1\.3_tets\.csv was not found \(in .* there are: 1\.3_test\.csv"):
        read_clutrr_tests(folder / "1.3_tets.csv")
    with pytest.raises(UserError, match=r"was not found \(nor was its folder .*nowhere\)"):
        read_clutrr_tests(folder / "nowhere" / "a.csv")
    (folder / "void").mkdir()
    with pytest.raises(UserError, match=r"was not found \(.*void is empty\)"):
        read_clutrr_tests(folder / "void" / "a")


def test_folder_without_training_rows(folder):
    (folder / "1.3_train.csv").unlink()
    with pytest.raises(UserError, match="has no training rows"):
        read_clutrr(folder)
    assert len(read_clutrr_tests(folder)) == 3


def test_one_story_is_too_few(tmp_path):
    write(tmp_path / "x_train.csv", [row(1), row(1)])
    with pytest.raises(UserError, match=r"too few training stories \(1\): validation takes one, so 2 are needed"):
        read_clutrr(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "prose"}, "form is 'prose', but it must be one of symbolic, sentences"),
        ({"names": "none"}, "names is 'none', but it must be one of original, shuffled, letters"),
        ({"questions_per_task": 0}, "questions_per_task is 0"),
        ({"validation_fraction": 0}, "validation_fraction is 0"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
    ],
)
def test_impossible_options(folder, options, message):
    with pytest.raises(UserError, match=message):
        read_clutrr(folder, **options)


def test_more_people_than_letters(tmp_path):
    names = [f"P{n}" for n in range(27)]
    crowd = row(
        story=" ".join(f"[{a}] met [{b}]." for a, b in itertools.pairwise(names)),
        query="('P0', 'P26')",
        story_edges=str([(n, n + 1) for n in range(26)]),
        edge_types=str(["brother"] * 26),
        genders=",".join(f"{name}:male" for name in names),
        proof_state="",
    )
    path = write(tmp_path / "crowd.csv", [crowd])
    assert read_clutrr_tests(path)[0].questions[0].hops == 26
    with pytest.raises(UserError, match="27 people, more than the 26 letters"):
        read_clutrr_tests(path, names="letters")
