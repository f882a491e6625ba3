"""CLUTRR data as tasks: the published files, files of the same format, and the hub's datasets."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from reckoning_betty.data.clutrr import text
from reckoning_betty.data.clutrr.generator import Form
from reckoning_betty.data.clutrr.kinship import RELATIONS
from reckoning_betty.data.clutrr.renaming import (
    BRACKETED,
    BracketedTask,
    Names,
    PooledNames,
    RenamedTasks,
    letter_names,
)
from reckoning_betty.data.clutrr.rows import Puzzle, Triple, parse_row
from reckoning_betty.data.clutrr.sentences import bracket_all, split_story, told_in
from reckoning_betty.data.clutrr.tables import read_tables
from reckoning_betty.data.held_out import fixed_hash, set_aside
from reckoning_betty.data.sources import Row
from reckoning_betty.data.task import Question, Splits, StoredTasks, Task
from reckoning_betty.errors import UserError


def read_clutrr(
    source: str | Path,
    *,
    form: Form = "symbolic",
    names: Names = "original",
    questions_per_task: int = 1,
    validation_fraction: float = 0.05,
    seed: int = 0,
) -> Splits:
    """Training, validation and test tasks from a folder, a CSV file, or a Hugging Face dataset.

    form: "symbolic" makes one fact of every relation given, in an order drawn for each story; "sentences" one of every
        sentence of the story.
    names: "original" as in the data; "shuffled" gives people other names of the training set at every visit in
        training, and leaves validation and test alone; "letters" calls everyone by a letter, drawn anew at every visit
        in training and once for every story of validation and test.
    questions_per_task: 1 asks what the row asks; more adds intermediate conclusions of the row's proof, as far as
        there are any.
    validation_fraction: share of the training stories set aside where the data has no validation rows. The hash of a
        story decides, so that equal rows stay on one side.

    UserError for what cannot be read, for malformed rows (with their place), and if there are no training rows.
    """
    _check_options(form, names, questions_per_task)
    if not 0 < validation_fraction < 1:
        raise UserError(f"validation_fraction is {validation_fraction}, but it must lie between 0 and 1, such as 0.05.")
    tables = read_tables(source)
    if not tables["train"]:
        raise UserError(f"{source} has no training rows; give a folder with a *_train.csv file too, or only evaluate.")
    train, validation, test = (
        _tasks(tables[split], form, questions_per_task, seed) for split in ("train", "validation", "test")
    )
    if not validation:
        train, validation = _set_aside(train, validation_fraction, seed, source)
    every = [*train, *validation, *test]
    if names == "original":
        drawn = StoredTasks(tasks=[task.named({}) for task in train], seed=seed)
    else:
        naming = letter_names(form) if names == "letters" else PooledNames.of(train)
        drawn = RenamedTasks(StoredTasks(tasks=train, seed=seed), naming, seed)
    in_use = set(naming.letters) if names == "letters" else {name for task in every for name in task.genders}
    return Splits(
        train=drawn,
        validation=_fixed(validation, form, names, seed),
        test=_fixed(test, form, names, seed),
        vocabulary=_vocabulary(every, in_use),
    )


def read_clutrr_tests(
    source: str | Path,
    *,
    form: Form = "symbolic",
    names: Names = "original",
    questions_per_task: int = 1,
    seed: int = 0,
) -> list[Task]:
    """The tasks to evaluate on: the test rows of the data, or all its rows if none of them is for testing.

    The options are those of ``read_clutrr``, with the same result: "shuffled" leaves tests as they are.
    """
    _check_options(form, names, questions_per_task)
    tables = read_tables(source)
    rows = tables["test"] or [*tables["train"], *tables["validation"]]
    return _fixed(_tasks(rows, form, questions_per_task, seed), form, names, seed)


def _check_options(form: str, names: str, questions_per_task: int) -> None:
    if form not in get_args(Form):
        raise UserError(f"form is {form!r}, but it must be one of {', '.join(get_args(Form))}.")
    if names not in get_args(Names):
        raise UserError(f"names is {names!r}, but it must be one of {', '.join(get_args(Names))}.")
    if questions_per_task < 1:
        raise UserError(f"questions_per_task is {questions_per_task}, but it must be 1 or more.")


def _tasks(rows: Sequence[Row], form: str, questions_per_task: int, seed: int) -> list[BracketedTask]:
    return [_task(parse_row(row), form, questions_per_task, seed) for row in rows]


def _task(puzzle: Puzzle, form: str, questions_per_task: int, seed: int) -> BracketedTask:
    first = _question((puzzle.query[0], puzzle.target, puzzle.query[1]), len(puzzle.given))
    if form == "symbolic":
        if puzzle.noise_edges:
            raise UserError(
                f"{puzzle.where}, column edge_types: {puzzle.noise_edges} of the story_edges are distractors, whose "
                "relations the file does not tell; read this data with form=sentences."
            )
        given = list(puzzle.given)
        # The file lists the edges along the chain, which would give the order of the reasoning away to a prompt.
        random.Random(f"{seed} order {puzzle.identifier}").shuffle(given)
        facts = [text.fact_text(f"[{x}]", relation, f"[{y}]") for x, relation, y in given]
        relevant = tuple(range(len(facts)))
        places = {triple: [i for i, other in enumerate(given) if other == triple] for triple in given}
    else:
        facts, relevant = _told(puzzle)
        places = None
    questions = [(first, relevant)]
    if questions_per_task > 1 and puzzle.conclusions:
        inner = sorted(puzzle.conclusions)
        random.Random(f"{seed} questions {puzzle.identifier}").shuffle(inner)
        for triple in inner[: questions_per_task - 1]:
            support = puzzle.conclusions[triple]
            # Which sentence tells which relation is not known; a sentence may tell two, or two sentences one.
            needed = tuple(range(len(facts))) if places is None else _places(places, support)
            questions.append((_question(triple, len(support)), needed))
    return BracketedTask(
        facts=tuple(facts),
        questions=tuple(Question(**question, relevant=needed) for question, needed in questions),
        identifier=puzzle.identifier,
        genders=puzzle.genders,
    )


def _question(triple: Triple, hops: int) -> dict:
    x, relation, y = triple
    return {"text": text.question_text(f"[{x}]", f"[{y}]"), "answer": relation, "hops": hops}


def _places(places: dict[Triple, list[int]], support: frozenset[Triple]) -> tuple[int, ...]:
    return tuple(sorted(place for triple in support for place in places[triple]))


def _told(puzzle: Puzzle) -> tuple[list[str], tuple[int, ...]]:
    """The sentences of the story, and which of them it has without its distractors (all, if that cannot be told)."""
    facts = split_story(puzzle.story, puzzle.genders)
    mentioned = {name for fact in facts for name in BRACKETED.findall(fact)}
    for name in puzzle.query:
        if name not in mentioned:
            raise UserError(
                f"{puzzle.where}, column query: {name!r} does not occur in the story, where every person must stand in "
                f"brackets; found are: {', '.join(sorted(mentioned)) or 'none'}."
            )
    if not puzzle.noise_edges:
        return facts, tuple(range(len(facts)))
    return facts, told_in(facts, bracket_all(puzzle.clean_story, puzzle.genders))


def _set_aside(
    tasks: list[BracketedTask], fraction: float, seed: int, source: str | Path
) -> tuple[list[BracketedTask], list[BracketedTask]]:
    """Split into training and validation by the hashes of the stories, at least one story to each side."""
    homes = [_story_hash(task, seed) for task in tasks]
    aside = set_aside(homes, {"validation": fraction}, source, "stories")["validation"]
    validation = [task for task, home in zip(tasks, homes, strict=True) if home in aside]
    return [task for task, home in zip(tasks, homes, strict=True) if home not in aside], validation


def _story_hash(task: BracketedTask, seed: int) -> str:
    """Equal for the same facts (in any order) with the same first question, in every process."""
    return fixed_hash(str(seed), *sorted(task.facts), task.questions[0].text)


def _fixed(tasks: list[BracketedTask], form: str, names: str, seed: int) -> list[Task]:
    """The tasks with the names that they keep."""
    if names != "letters":
        return [task.named({}) for task in tasks]
    letters = letter_names(form)
    return [
        task.named(letters.choose(task.genders, random.Random(f"{seed} letters {task.identifier}"))) for task in tasks
    ]


def _vocabulary(tasks: Sequence[BracketedTask], names: set[str]) -> list[str]:
    """The words of all facts and questions apart from the names in them, these ``names``, and the relations."""
    found = {word for name in names for word in text.words(name)} | set(RELATIONS)
    for task in tasks:
        for line in (*task.facts, *(question.text for question in task.questions)):
            found.update(text.words(BRACKETED.sub(" ", line)))
    return sorted(found)
