"""Reading CLUTRR: the published files, small ones of the same format, and every way in which a file can be wrong."""

import csv
import gzip
import itertools
import re
from collections import Counter
from pathlib import Path

import pytest

from reckoning_betty.data.clutrr import read_clutrr, read_clutrr_tests, words
from reckoning_betty.data.clutrr.kinship import RELATIONS, conclusions
from reckoning_betty.data.clutrr.sentences import split_story, told_in
from reckoning_betty.data.task import StoredTasks
from reckoning_betty.errors import UserError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
COLUMNS = """
id story query text_query target text_target clean_story proof_state f_comb task_name story_edges edge_types query_edge
genders syn_story node_mapping task_split
"""
COLUMNS = ["", *COLUMNS.split()]
FACT = re.compile(r"(\w+) is the ([\w-]+) of (\w+) \.")
QUESTION = re.compile(r"How is (\w+) related to (\w+) \?")


def row(number=0, **changed):
    """A row of three hops from Tom to Lea: his sister Ann's mother Eva has a daughter Lea."""
    n = f"{number}" if number else ""
    tom, ann, eva, lea = (name + n for name in ("Tom", "Ann", "Eva", "Lea"))
    cells = dict.fromkeys(COLUMNS, "")
    cells |= {
        "": str(number),
        "id": f"row-{number}",
        "story": f"[{eva}] called her daughter [{ann}]. It was Mother's Day! [{tom}] and his sister [{ann}] ran. "
        f"[{lea}]'s mom, [{eva}], smiled.",
        "clean_story": f"[{tom}] and his sister [{ann}] ran. [{eva}] called her daughter [{ann}]. It was Mother's Day! "
        f"[{lea}]'s mom, [{eva}], smiled.",
        "query": str((tom, lea)),
        "target": "sister",
        "story_edges": "[(0, 1), (1, 2), (2, 3)]",
        "edge_types": "['sister', 'mother', 'daughter']",
        "query_edge": "(0, 3)",
        "genders": f"{tom}:male,{ann}:female,{eva}:female,{lea}:female",
        "proof_state": str(
            [
                {(tom, "sister", lea): [(tom, "sister", ann), (ann, "sister", lea)]},
                {(ann, "sister", lea): [(ann, "mother", eva), (eva, "daughter", lea)]},
            ]
        ),
        "task_name": "task_1.3",
        "task_split": "train",
    }
    assert set(changed) <= set(cells)
    return cells | changed


def write(path, rows, columns=COLUMNS):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def folder(tmp_path):
    """Forty training rows and three test rows, two of which tell the same story."""
    write(tmp_path / "1.3_train.csv", [row(n) for n in range(1, 41)])
    write(tmp_path / "1.3_test.csv", [row(n, task_split="test") for n in (0, 0, 50)])
    return tmp_path


def triples(task):
    return [(m[3], m[2], m[1]) for m in map(FACT.fullmatch, task.facts)]


# The published data


def published(name):
    path = SHARED / "data" / name
    if not path.is_dir():
        pytest.skip(f"the published data is not at {path}")
    return path


def chains(edges, a, b):
    """Every order of all the edges in which each begins where the one before it ends, from a to b."""
    if not edges:
        return [[]] if a == b else []
    return [
        [edge, *rest]
        for place, edge in enumerate(edges)
        if edge[0] == a
        for rest in chains(edges[:place] + edges[place + 1 :], edge[2], b)
    ]


def check_symbolic(task):
    """The facts can be joined to a chain between the people of the question, and the rules conclude the answer."""
    every = triples(task)
    for question in task.questions:
        b, a = QUESTION.fullmatch(question.text).groups()
        part = [every[place] for place in question.relevant]
        assert question is task.questions[0] or len(set(part)) == question.hops >= 2
        if len(set(every)) == len(every):
            found = chains(part, a, b)
            assert found
            assert any(question.answer in conclusions([word for _, word, _ in c])[0, len(c)] for c in found)


PUBLISHED = {
    "clutrr/data_089907f8": (
        10094,
        {2: 38, 3: 105, 4: 190, 5: 174, 6: 107, 7: 144, 8: 150, 9: 119, 10: 119},
    ),
    "clutrr/data_06b8f2a1": (10154, {2: 38, 3: 101 + 107 + 101 + 100}),
    "clutrr_bench/data_ab2918c7": (2685, {3: 820, 4: 1028, 6: 1081}),
}


TOLD_TWICE = {"clutrr/data_089907f8": 11, "clutrr_bench/data_ab2918c7": 14}


@pytest.mark.parametrize("name", TOLD_TWICE)
def test_published_facts(name):
    splits = read_clutrr(published(name), questions_per_task=3)
    train, test = PUBLISHED[name]
    assert len(splits.train.tasks) + len(splits.validation) == train
    assert 0.04 * train < len(splits.validation) < 0.06 * train
    assert Counter(task.questions[0].hops for task in splits.test) == test
    every = [*splits.train.tasks, *splits.validation, *splits.test]
    # In these few a fact is given twice, so that the stretch that a conclusion rests on has no one place.
    assert sum(len(set(task.facts)) < len(task.facts) for task in every) == TOLD_TWICE[name]
    for task in every:
        check_symbolic(task)
        assert task.questions[0].relevant == tuple(range(len(task.facts)))
    assert {len(t.questions) for t in splits.test if t.questions[0].hops > 4} <= {2, 3}
    held_out = {(*sorted(task.facts), task.questions[0].text) for task in splits.validation}
    assert not held_out & {(*sorted(task.facts), task.questions[0].text) for task in splits.train.tasks}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sentences(name):
    splits = read_clutrr(published(name), form="sentences")
    train, test = PUBLISHED[name]
    assert len(splits.train.tasks) + len(splits.validation) == train
    assert Counter(task.questions[0].hops for task in splits.test) == test
    vocabulary = set(splits.vocabulary)
    some_irrelevant = 0
    for task in [*splits.train.tasks, *splits.validation, *splits.test]:
        question = task.questions[0]
        text = " ".join(task.facts)
        assert all(name in text for name in QUESTION.fullmatch(question.text).groups())
        assert "[" not in text + question.text
        assert set(words(text)) | set(words(question.text)) <= vocabulary
        assert question.relevant
        some_irrelevant += len(question.relevant) < len(task.facts)
    if name.endswith("06b8f2a1"):
        assert some_irrelevant > 0.98 * 10154
    else:
        assert some_irrelevant == 0


def test_published_distractors_have_no_symbolic_form():
    folder = published("clutrr/data_06b8f2a1")
    with pytest.raises(UserError, match=r"2\.2_test\.csv, line 2, column edge_types: 2 .* form=sentences"):
        read_clutrr_tests(folder / "2.2_test.csv")
    assert len(read_clutrr_tests(folder / "1.3_test.csv")) == 101


# Small files


def test_facts_of_a_row(folder):
    task = read_clutrr_tests(folder, questions_per_task=5)[0]
    told = ("Ann is the sister of Tom .", "Eva is the mother of Ann .", "Lea is the daughter of Eva .")
    assert sorted(task.facts) == sorted(told)
    first, second = task.questions
    assert (first.text, first.answer) == ("How is Lea related to Tom ?", "sister")
    assert (first.hops, first.relevant) == (3, (0, 1, 2))
    assert (second.text, second.answer) == ("How is Lea related to Ann ?", "sister")
    assert (second.hops, {task.facts[place] for place in second.relevant}) == (2, set(told[1:]))
    assert task.identifier == "row-0"
    assert len(read_clutrr_tests(folder)[0].questions) == 1


def test_the_order_of_the_facts_does_not_tell_the_chain(folder):
    """The file lists the edges along the chain; a prompt with that order would give half of the reasoning away."""
    orders = {tuple(word for _, word, _ in triples(task)) for task in read_clutrr(folder).train.tasks}
    assert len(orders) == 6
    assert read_clutrr(folder).train.tasks == read_clutrr(folder).train.tasks


def test_no_question_asks_for_a_given_fact(tmp_path):
    """Here the proof derives Ann from the two others, though a fact names her: only Lea from Ann is left to ask."""
    proof = row()["proof_state"][:-1] + ", {('Tom', 'sister', 'Ann'): [('Tom', 'sister', 'Lea')]}]"
    (task,) = read_clutrr_tests(write(tmp_path / "a.csv", [row(proof_state=proof)]), questions_per_task=9)
    assert [q.text for q in task.questions] == ["How is Lea related to Tom ?", "How is Lea related to Ann ?"]


def test_sentences_of_a_row(folder):
    task = read_clutrr_tests(folder, form="sentences", questions_per_task=2)[0]
    assert task.facts == (
        "Eva called her daughter Ann. It was Mother's Day!",
        "Tom and his sister Ann ran.",
        "Lea's mom, Eva, smiled.",
    )
    assert [(q.hops, q.relevant) for q in task.questions] == [(3, (0, 1, 2)), (2, (0, 1, 2))]


def test_distractors_in_sentences(tmp_path):
    noisy = row(
        story="[Bo] saw his son [Tom]. He waved. [Eva] called her daughter [Ann]. [Tom] and his sister [Ann] ran. "
        "[Lea]'s mom, [Eva], smiled.",
        story_edges="[(0, 1), (1, 2), (2, 3), (4, 0)]",
        genders="Tom:male,Ann:female,Eva:female,Lea:female,Bo:male",
    )
    path = write(tmp_path / "noisy.csv", [noisy])
    (task,) = read_clutrr_tests(path, form="sentences")
    assert task.facts[0] == "Bo saw his son Tom. He waved."
    assert task.questions[0].relevant == (1, 2, 3)
    with pytest.raises(UserError, match=r"line 2, column edge_types: 1 of the story_edges .* form=sentences"):
        read_clutrr_tests(path)


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ('It rained. [A] is "ill." [B] left!', ["It rained. [A] is \"ill.\"", "[B] left!"]),
        ("Mr. [A] met Dr. [B]. They spoke? Yes.", ["Mr. [A] met Dr. [B]. They spoke? Yes."]),
        ("[A]'s son [B] ran.  A had fun.", ["[A]'s son [B] ran.", "[A] had fun."]),
        ("[A] and [Anna] met. Anna left.", ["[A] and [Anna] met.", "[Anna] left."]),
    ],
)  # fmt: skip
def test_splitting_into_sentences(story, expected):
    assert split_story(story, ["A", "B", "Anna"]) == expected


@pytest.mark.parametrize(
    ("clean", "expected"),
    [
        ("[B] ran. [A] sat", (0, 1)),
        ("[A] sat", (0,)),
        ("[B] ran [A] sat. They sang.", (0, 1)),
        ("", (0, 1, 2)),
        ("[A] sat. [B] flew.", (0, 1, 2)),
    ],
)
def test_telling_distractors(clean, expected):
    assert told_in(["[A] sat. They sang.", "[B] ran.", "[C] slept."], clean) == expected


def test_niece_and_revisited_people(tmp_path):
    changed = row(
        target="neice",
        query="('Tom', 'Eva')",
        story_edges="[(0, 1), (1, 2), (2, 1), (1, 2)]",
        edge_types="['sister', 'daughter', 'mother', 'daughter']",
        genders="Tom:male,Ann:female,Eva:female",
        proof_state="[{('Tom', 'neice', 'Eva'): [('Tom', 'sister', 'Ann'), ('Ann', 'daughter', 'Eva')]}]",
    )
    (task,) = read_clutrr_tests(write(tmp_path / "a.csv", [changed]), questions_per_task=3)
    assert len(task.facts) == 4
    assert task.facts[1] == task.facts[3] == "Eva is the daughter of Ann ."
    assert [q.answer for q in task.questions] == ["niece"]


def test_validation_takes_whole_stories(tmp_path):
    """Every story stands in the file three times, with its facts told in another order and another id."""
    order = [("[(0, 1), (1, 2), (2, 3)]", "['sister', 'mother', 'daughter']")]
    order.append(("[(1, 2), (0, 1), (2, 3)]", "['mother', 'sister', 'daughter']"))
    order.append(("[(2, 3), (1, 2), (0, 1)]", "['daughter', 'mother', 'sister']"))
    rows = [row(n, id=f"{n}-{k}", story_edges=e, edge_types=t) for k, (e, t) in enumerate(order) for n in range(1, 41)]
    write(tmp_path / "x_train.csv", rows)
    splits = read_clutrr(tmp_path, validation_fraction=0.2)
    held_out, kept = ({story(task) for task in tasks} for tasks in (splits.validation, splits.train.tasks))
    assert (len(held_out), len(kept)) == (8, 32)
    assert (len(splits.validation), len(splits.train.tasks)) == (24, 96)
    assert not held_out & kept
    assert {story(task) for task in read_clutrr(tmp_path, validation_fraction=0.2, seed=1).validation} != held_out
    assert read_clutrr(tmp_path, validation_fraction=0.2).validation == splits.validation
    assert len(read_clutrr(tmp_path, validation_fraction=0.001).validation) == 3
    assert len({story(task) for task in read_clutrr(tmp_path, validation_fraction=0.999).train.tasks}) == 1


def story(task):
    return (*sorted(task.facts), task.questions[0].text)


def test_validation_file_is_used(folder):
    write(folder / "1.3_valid.csv.gz", [row(n) for n in (60, 61)])
    splits = read_clutrr(folder)
    assert [task.identifier for task in splits.validation] == ["row-60", "row-61"]
    assert len(splits.train.tasks) == 40


def test_single_file_follows_task_split(tmp_path):
    rows = [row(n, task_split=split) for n, split in enumerate(("train", "test", "train", "train", "test"), 1)]
    path = write(tmp_path / "all.csv.gz", rows)
    splits = read_clutrr(path)
    assert [task.identifier for task in splits.test] == ["row-2", "row-5"]
    assert len(splits.train.tasks) + len(splits.validation) == 3
    assert [task.identifier for task in read_clutrr_tests(path)] == ["row-2", "row-5"]
    only_train = write(tmp_path / "some.csv", [row(n) for n in (1, 2)])
    assert [task.identifier for task in read_clutrr_tests(only_train)] == ["row-1", "row-2"]
    unmarked = write(tmp_path / "unmarked.csv", [row(1)], [c for c in COLUMNS if c != "task_split"])
    assert len(read_clutrr_tests(unmarked)) == 1
    with pytest.raises(UserError, match="has no training rows"):
        read_clutrr(unmarked)


def test_shuffled_names(folder):
    splits = read_clutrr(folder, names="shuffled", questions_per_task=2)
    pool = {f"{name}{n}" for n in range(1, 41) for name in ("Tom", "Ann", "Eva", "Lea")}
    visits = {}
    for step in range(20):
        for task in splits.train.draw(step, 10):
            check_symbolic(task)
            people = {person for x, _, y in triples(task) for person in (x, y)}
            assert len(people) == 4
            assert people <= pool
            # One man per story, the one whose sister is told, and as many men's names as stories: he gets a man's.
            assert [p for p in people if p.startswith("Tom")] == [x for x, word, _ in triples(task) if word == "sister"]
            visits.setdefault(task.identifier, set()).add(task.facts)
    assert all(len(facts) > 1 for facts in visits.values())
    later = splits.train.draw(7, 5)
    splits.train.draw(90, 2)
    assert splits.train.draw(7, 5) == later
    assert read_clutrr(folder, names="shuffled", questions_per_task=2, seed=1).train.draw(7, 5) != later
    original = read_clutrr(folder, questions_per_task=2)
    assert (splits.test, splits.validation) == (original.test, original.validation)
    assert isinstance(original.train, StoredTasks)
    assert set(splits.vocabulary) == set(original.vocabulary)


@pytest.mark.parametrize("form", ["symbolic", "sentences"])
def test_letters(folder, form):
    splits = read_clutrr(folder, names="letters", form=form)
    letters = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") - (set() if form == "symbolic" else {"A", "I"})
    drawn = [task for step in range(40) for task in splits.train.draw(step, 5)]
    assert letters <= set(splits.vocabulary)
    for task in [*drawn, *splits.validation, *splits.test]:
        assert set(QUESTION.fullmatch(task.questions[0].text).groups()) <= letters
        found = {word for fact in task.facts for word in words(fact)}
        assert found <= set(splits.vocabulary)
        assert len(found & letters) == 4
        assert not re.search(r"Tom|Ann|Eva|Lea", " ".join(task.facts))
    assert not any(word.startswith(("Tom", "Ann", "Eva", "Lea")) for word in splits.vocabulary)
    assert len({task.questions[0].text for task in drawn if task.identifier == drawn[0].identifier}) > 1
    # The test keeps its letters: the same whenever it is read, alone or with the training rows.
    assert splits.test == read_clutrr_tests(folder, names="letters", form=form)
    assert splits.test != read_clutrr_tests(folder, names="letters", form=form, seed=1)


def test_vocabulary(folder):
    vocabulary = read_clutrr(folder).vocabulary
    assert vocabulary == sorted(set(vocabulary))
    assert set(RELATIONS) <= set(vocabulary)
    assert {"Tom", "Lea50", "How", "?", "is", "the", "of", "."} <= set(vocabulary)
    assert len(vocabulary) == 20 + 4 * 42 + 8


# Hugging Face datasets


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    return datasets


def test_folder_for_datasets(tmp_path, cache):
    """Files that only the library knows how to read, with the hub's column for the word of the answer."""
    hub = tmp_path / "hub"
    hub.mkdir()
    for split, numbers in (("train", range(1, 9)), ("validation", (20,)), ("test", (30, 31))):
        rows = [row(n, target="7") | {"target_text": "sister"} for n in numbers]
        cache.Dataset.from_list([{k: v for k, v in cells.items() if k} for cells in rows]).to_parquet(
            str(hub / f"{split}.parquet")
        )
    splits = read_clutrr(hub)
    assert len(splits.train.tasks) == 8
    assert [task.identifier for task in splits.validation] == ["row-20"]
    assert [task.questions[0].answer for task in splits.test] == ["sister", "sister"]
    assert splits.test == read_clutrr_tests(hub)


def test_folder_saved_by_datasets(tmp_path, cache):
    rows = [{k: v for k, v in row(n).items() if k} for n in range(1, 6)]
    tables = {"train": cache.Dataset.from_list(rows), "test": cache.Dataset.from_list(rows[:2])}
    cache.DatasetDict(tables).save_to_disk(str(tmp_path / "saved"))
    splits = read_clutrr(tmp_path / "saved")
    assert len(splits.train.tasks) + len(splits.validation) == 5
    assert len(splits.test) == 2
    broken = cache.Dataset.from_list([rows[0] | {"edge_types": "['boss', 'mother', 'daughter']"}])
    cache.DatasetDict({"test": broken}).save_to_disk(str(tmp_path / "broken"))
    with pytest.raises(UserError, match="test row 1, column edge_types: 'boss' is no relation"):
        read_clutrr_tests(tmp_path / "broken")


def test_hub_name(monkeypatch, cache):
    """The name and configuration reach the library; a dataset that is a script is looked for in its converted form."""
    calls = []
    table = cache.Dataset.from_list([{k: v for k, v in row(n).items() if k} for n in range(3)])

    def load_dataset(path, config, revision=None):
        calls.append((path, config, revision))
        if revision is None:
            raise RuntimeError("Dataset scripts are no longer supported, but found v1.py")
        return cache.DatasetDict({"test": table})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert len(read_clutrr_tests("CLUTRR/v1:gen_train234_test2to10")) == 3
    expected = ("CLUTRR/v1", "gen_train234_test2to10")
    assert calls == [(*expected, None), (*expected, "refs/convert/parquet")]


def test_hub_out_of_reach(monkeypatch, cache):
    def load_dataset(path, config):
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(UserError, match=r"CLUTRR/v1 cannot be opened .*\(Couldn't reach the Hub\); give a folder"):
        read_clutrr("CLUTRR/v1")


# What can be wrong


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
        ("a.csv.gz", gzip.compress(b"id,story,query\n" * 99)[:-12], "is not a complete gzip file"),
        ("a.csv.gz", gzip.compress(bytes(range(256)) * 50)[:40] + b"?" * 200, "is not a complete gzip file"),
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
    with pytest.raises(UserError, match="one training story only"):
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
