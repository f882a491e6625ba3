"""Reading bAbI: small files of its format, the published ones, and data sets of Hugging Face."""

import re
from collections import Counter

import pytest

from reckoning_betty.data.babi import read_babi, read_babi_tests
from reckoning_betty.errors import UserError
from reckoning_betty.models.word_tokenizer import word_tokenizer

STORY = """1 Mary moved to the bathroom.
2 {name} got the milk there.
3 Where is Mary? \tbathroom\t1
4 Mary took the football.
5 What is Mary carrying? \tmilk,football\t4 2
6 Where is the milk? \tbathroom\t2 1
7 Where is the milk? \tbathroom\t2 1
8 {name} left.
"""
NAMES = ("Ann", "Bob", "Cem", "Dan", "Eva", "Fay", "Gus", "Hal", "Ida", "Jim")


@pytest.fixture
def folder(tmp_path):
    """Ten stories of four questions to train on and two to test, as task 1; one more story as task 2."""
    (tmp_path / "qa1_some-name_train.txt").write_text("".join(STORY.format(name=name) for name in NAMES))
    (tmp_path / "qa1_some-name_test.txt").write_text("".join(STORY.format(name=name) for name in ("Kim", "Lou")))
    (tmp_path / "qa2_other_train.txt").write_text(STORY.format(name="Max"))
    (tmp_path / "README.txt").write_text("nothing to read")
    return tmp_path


def names_in(tasks):
    return {task.facts[1].split()[1] for task in tasks}


def test_a_story(folder):
    where, carrying, milk, again = read_babi_tests(folder)[:4]
    assert where.facts == ("1 Mary moved to the bathroom.", "2 Kim got the milk there.")
    (question,) = where.questions
    assert (question.text, question.answer) == ("Where is Mary?", "bathroom")
    assert (question.hops, question.relevant) == (1, (0,))
    assert carrying.facts == (*where.facts, "3 Mary took the football.")
    (question,) = carrying.questions
    assert (question.answer, question.hops, question.relevant) == ("milk,football", 2, (1, 2))
    assert milk.questions == again.questions
    assert again.identifier == f"{folder / 'qa1_some-name_test.txt'}, line 7"


@pytest.mark.parametrize(("most", "asked"), [(1, [1, 1, 1, 1]), (2, [1, 2, 1]), (3, [1, 2]), (9, [1, 2])])
def test_questions_about_the_same_facts_are_joined_in_training_alone(folder, most, asked):
    splits = read_babi(folder, tasks=[1], questions_per_task=most)
    (first, *_) = splits.train.tasks
    numbers = [len(task.questions) for task in splits.train.tasks if task.facts[1] == first.facts[1]]
    assert numbers == asked  # three questions follow each other, the last two of which are one and the same
    assert len(splits.test) == 2 * 4
    assert {len(task.questions) for task in (*splits.validation, *splits.test)} == {1}


def test_validation_takes_whole_stories(folder):
    splits = read_babi(folder, tasks=[1], validation_fraction=0.3)
    assert len(splits.validation) == 3 * 4
    assert len(splits.train.tasks) == 7 * 4
    assert names_in(splits.validation) | names_in(splits.train.tasks) == set(NAMES)
    assert not names_in(splits.validation) & names_in(splits.train.tasks)
    assert names_in(splits.test) == {"Kim", "Lou"}
    assert read_babi(folder, tasks=[1], validation_fraction=0.3, seed=1).validation == splits.validation


def test_a_validation_file_is_used(folder):
    (folder / "qa1_valid.txt").write_text(STORY.format(name="Val"))  # so are those of the version en-valid called
    splits = read_babi(folder, tasks=[1])
    assert names_in(splits.validation) == {"Val"}
    assert len(splits.train.tasks) == 40


def test_tasks_are_chosen_by_number(folder):
    assert names_in(read_babi(folder, tasks=[1]).train.tasks) <= set(NAMES)
    every = read_babi(folder)
    assert names_in(every.train.tasks) | names_in(every.validation) == {*NAMES, "Max"}
    with pytest.raises(UserError, match=r"data\.tasks=\[1, 3, 4\] .* no files of 3, 4; take data\.tasks=\[1, 2\]"):
        read_babi(folder, tasks=[1, 3, 4])
    with pytest.raises(UserError, match=r"data\.tasks=21 .* bAbI's tasks are 1 to 20"):
        read_babi(folder, tasks=[21])
    (folder / "qa2_other_train.txt").write_text("no line of a story")
    assert len(read_babi(folder, tasks=[1]).test) == 8  # a task that is not wanted may be damaged


def test_a_single_file_is_read_whatever_its_task(folder):
    assert names_in(read_babi_tests(folder / "qa2_other_train.txt", tasks=[1])) == {"Max"}
    splits = read_babi(folder / "qa1_some-name_train.txt", tasks=[2])
    assert (len(splits.train.tasks) + len(splits.validation), splits.test) == (40, [])
    (folder / "mine").write_text("".join(STORY.format(name=name) for name in NAMES))
    assert len(read_babi(folder / "mine").train.tasks) == 36
    assert len(read_babi_tests(folder / "mine")) == 40


def test_vocabulary(folder):
    splits = read_babi(folder)
    assert {"1", "2", "3", "Mary", ",", "football", "Kim", "?", "."} <= set(splits.vocabulary)
    assert not {"left", "4"} & set(splits.vocabulary)  # what follows the last question is never a fact


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Mary left.", "line 3: 'Mary left.' is neither 'number sentence' nor 'number question<tab>answer"),
        ("3", "line 3: '3' is neither"),
        ("3 Where is Mary?\tbathroom", "line 3: '3 Where is Mary?\\tbathroom' is neither"),
        ("3 Where is Mary?\t\t1", "line 3: '3 Where is Mary?\\t\\t1' is neither"),
        ("3 Where is Mary?\ta\t1\tb", "line 3: '3 Where is Mary?\\ta\\t1\\tb' is neither"),
        ("5 Mary left.", "line 3: its number is 5, but 3 (or 1, for a new story) must come here"),
        ("2 Mary left.", "line 3: its number is 2, but 3 (or 1, for a new story) must come here"),
        ("3 Where is Mary?\tbathroom\tx", "line 3: 'x' is no line number"),
        ("3 Where is Mary?\tbathroom\t7", "line 3: supporting line 7 is no sentence before the question"),
        ("3 Where is Mary?\tbathroom\t3", "line 3: supporting line 3 is no sentence before the question"),
        ("3 Where is Mary?\tbathroom\t", "line 3: '3 Where is Mary?\\tbathroom\\t' is neither"),
        ("1 Where is Mary?\tbathroom\t1", "line 3: it asks 'Where is Mary?' before any sentence of its story"),
    ],
)
def test_malformed_lines(tmp_path, line, message):
    path = tmp_path / "qa1_test.txt"
    path.write_text(f"1 Mary moved to the bathroom.\n2 Ann got the milk.\n{line}\n")
    with pytest.raises(UserError, match=re.escape(f"{path}, {message}")):
        read_babi_tests(path)


def test_a_story_that_does_not_begin_with_1(tmp_path):
    (tmp_path / "a.txt").write_text("\n4 Mary moved to the bathroom.\n")
    with pytest.raises(UserError, match="line 2: its number is 4, but 1 must come here"):
        read_babi_tests(tmp_path / "a.txt")


def test_what_cannot_be_read(folder):
    with pytest.raises(UserError, match=r"qa1_tset\.txt was not found \(in .* there are: "):
        read_babi(folder / "qa1_tset.txt")
    with pytest.raises(UserError, match="has no training stories"):
        read_babi(folder / "qa1_some-name_test.txt")
    with pytest.raises(UserError, match=r"too few training stories \(1\): validation takes one, so 2 are needed"):
        read_babi(folder, tasks=[2])
    (folder / "qa3_train.txt").write_bytes(b"1 \xff")
    with pytest.raises(UserError, match=r"qa3_train\.txt, line 1: not UTF-8"):
        read_babi(folder, tasks=[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"questions_per_task": 0}, "data.questions_per_task=0"),
        ({"validation_fraction": 0}, "data.validation_fraction=0"),
        ({"validation_fraction": 1.0}, "data.validation_fraction=1.0"),
    ],
)
def test_impossible_options(folder, options, message):
    with pytest.raises(UserError, match=message):
        read_babi(folder, **options)


# Hugging Face datasets


def record(line):
    """A line of a story as the hub's data set has it."""
    number, _, rest = line.partition(" ")
    text, *answered = (cell.strip() for cell in rest.split("\t"))
    answer, support = answered or ("", "")
    return {
        "id": number,
        "type": int(bool(answered)),
        "text": text,
        "supporting_ids": support.split(),
        "answer": answer,
    }


def stories(names, *, by_field):
    """Rows of stories, each a list of records, or as the library hands over a sequence of records: lists by field."""
    every = [[record(line) for line in STORY.format(name=name).splitlines()] for name in names]
    if by_field:
        every = [{field: [line[field] for line in story] for field in story[0]} for story in every]
    return [{"story": story} for story in every]


@pytest.mark.parametrize("by_field", [True, False])
def test_a_data_set_has_the_tasks_of_the_files(folder, by_field):
    datasets = pytest.importorskip("datasets")
    parts = {"train": NAMES, "test": ("Kim", "Lou")}
    tables = {split: datasets.Dataset.from_list(stories(names, by_field=by_field)) for split, names in parts.items()}
    datasets.DatasetDict(tables).save_to_disk(str(folder / "saved"))
    ours, files = (read_babi(source, tasks=[1], questions_per_task=3) for source in (folder / "saved", folder))
    assert ours.test[3].identifier == f"{folder / 'saved'}, test row 1, line 7"
    for one, other in ((ours.train.tasks, files.train.tasks), (ours.validation, files.validation)):
        assert [(task.facts, task.questions) for task in one] == [(task.facts, task.questions) for task in other]
    assert [(task.facts, task.questions) for task in ours.test] == [(t.facts, t.questions) for t in files.test]


@pytest.mark.parametrize(
    ("name", "tasks", "configurations"),
    [
        ("facebook/babi_qa:en-10k-qa3", (), ["en-10k-qa3"]),
        ("facebook/babi_qa", (1, 15), ["en-qa1", "en-qa15"]),
        ("facebook/babi_qa:en-10k", (2,), ["en-10k-qa2"]),
        ("facebook/babi_qa", (), [f"en-qa{number}" for number in range(1, 21)]),
    ],
)
def test_the_hub_has_a_configuration_for_every_task(monkeypatch, name, tasks, configurations):
    datasets = pytest.importorskip("datasets")
    table = datasets.DatasetDict({"test": datasets.Dataset.from_list(stories(["Kim"], by_field=True))})
    asked = []
    monkeypatch.setattr("datasets.load_dataset", lambda path, config: asked.append((path, config)) or table)
    assert len(read_babi_tests(name, tasks=tasks)) == 4 * len(configurations)
    assert asked == [("facebook/babi_qa", configuration) for configuration in configurations]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("a text", "row 1, column story: 'a text' is no list of lines"),
        ([{"id": "1", "text": "Mary left."}], "row 1, line 1, column story: type, supporting_ids, answer is missing"),
        ([record("1 ")], "row 1, line 1, column story: it has no text, or is a question without an answer"),
        ([record("one Mary left.")], "row 1, line 1: 'one' is no line number"),
        (
            [record("1 Mary left."), record("2 Why?\tso\t")],
            "row 1, line 2: no supporting line, allowed are the numbers",
        ),
    ],
)
def test_malformed_rows_of_a_data_set(monkeypatch, changed, message):
    datasets = pytest.importorskip("datasets")
    table = datasets.DatasetDict({"test": datasets.Dataset.from_list([{"story": changed}])})
    monkeypatch.setattr("datasets.load_dataset", lambda path, config: table)
    with pytest.raises(UserError, match=re.escape(message)):
        read_babi_tests("facebook/babi_qa:en-qa1")


# the published files

PUBLISHED = {1: (200, 1, 10), 2: (200, 2, 88), 3: (200, 3, 228), 15: (250, 2, 8), 16: (1000, 3, 9)}
"""Stories of a file, supporting facts of each question, and sentences of the longest story, by task."""


@pytest.fixture(scope="module")
def published(shared):
    return shared / "data/babi/en"


@pytest.mark.parametrize("number", PUBLISHED)
def test_published_files(published, number):
    num_stories, supporting, longest = PUBLISHED[number]
    splits = read_babi(published, tasks=[number])
    parts = {"train": [*splits.train.tasks, *splits.validation], "test": splits.test}
    assert {len(splits.validation), len(splits.train.tasks)} == {100, 900}
    for split, tasks in parts.items():
        assert len(tasks) == 1000
        assert Counter(task.questions[0].hops for task in tasks) == {supporting: 1000}
        (file,) = published.glob(f"qa{number}_*_{split}.txt")
        lines = file.read_text().splitlines()
        assert sum(line.startswith("1 ") for line in lines) == num_stories
        for task in tasks:
            (question,) = task.questions
            at = int(task.identifier.rpartition(" ")[2]) - 1
            text, answer, support = lines[at].partition(" ")[2].split("\t")
            assert (question.text, question.answer) == (text.strip(), answer)
            first = at - int(lines[at].split()[0]) + 1  # where the story begins
            told = [lines[first + int(place) - 1].partition(" ")[2] for place in support.split()]
            assert {task.facts[place].partition(" ")[2] for place in question.relevant} == set(told)
            before = [line.partition(" ")[2] for line in lines[first:at] if "\t" not in line]
            assert list(task.facts) == [f"{place} {sentence}" for place, sentence in enumerate(before, 1)]
    assert max(len(task.facts) for tasks in parts.values() for task in tasks) == longest


def test_the_tokenizer_knows_every_published_word(published):
    splits = read_babi(published, tasks=[1, 15, 16], questions_per_task=4)
    assert len(splits.test) == 3000
    tokenizer = word_tokenizer(splits.vocabulary)
    texts = {text for task in (*splits.train.tasks, *splits.validation, *splits.test) for text in texts_of(task)}
    assert all(tokenizer.unk_token_id not in ids for ids in tokenizer(sorted(texts))["input_ids"])


def texts_of(task):
    return [*task.facts, *(text for q in task.questions for text in (q.text, q.answer))]
