"""Reading CLUTRR: small files of its format, and data sets of Hugging Face."""

import re

import pytest
from clutrr_files import COLUMNS, QUESTION, check_symbolic, row, triples, write

from reckoning_betty.data.clutrr import read_clutrr, read_clutrr_tests, words
from reckoning_betty.data.clutrr.kinship import RELATIONS
from reckoning_betty.data.clutrr.sentences import split_story, told_in
from reckoning_betty.data.task import StoredTasks
from reckoning_betty.errors import UserError


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
