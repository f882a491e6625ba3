"""bAbI stories as tasks: every question with the sentences before it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reckoning_betty.data.babi.stories import Line, Story, read_stories
from reckoning_betty.data.held_out import fixed_hash, set_aside
from reckoning_betty.data.task import Question, Splits, StoredTasks, Task
from reckoning_betty.errors import UserError, require
from reckoning_betty.models.word_tokenizer import words


def read_babi(
    source: str | Path,
    *,
    tasks: Sequence[int] = (),
    questions_per_task: int = 1,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> Splits:
    """Training, validation and test tasks from a folder, a text file, or a Hugging Face dataset.

    The facts of a question are the sentences of its story before it. They tell events in their order, and a set of
    facts has none, so each begins with its place: "3 Mary moved to the bathroom." is the third sentence. ``hops`` is
    the number of supporting facts, which are the relevant ones. Answers that are lists ("milk,football") stay as
    they are.

    Args:
        source: a folder of files such as ``qa1_single-supporting-fact_train.txt``, a single file (training stories
            unless its name tells otherwise), or a dataset, whose configuration may name a task (``en-qa1``) or only
            the version (``en``, which is meant without one).
        tasks: numbers of the tasks to be read out of a folder or a dataset; none for all there are.
        questions_per_task: at most so many training questions about one set of facts, which are those that the story
            asks with no sentence in between; qa15 has 4, most tasks 1. Evaluation asks every question.
        validation_fraction: share of the training stories that validation takes where it has no files of its own. A
            fixed hash decides, whatever the seed.
        seed: of the order in training.

    Raises:
        UserError: what cannot be read, malformed lines (with their place), tasks or training stories that are missing.
    """
    require(questions_per_task >= 1, "data.questions_per_task", questions_per_task, "it must be 1 or more")
    allowed = "it lies between 0 and 1, such as 0.1"
    require(0 < validation_fraction < 1, "data.validation_fraction", validation_fraction, allowed)
    stories = read_stories(source, tasks, "train")
    train, validation = stories["train"], stories["validation"]
    if not train:
        raise UserError(
            f"{source} has no training stories; give a folder with *_train.txt files too, or only evaluate."
        )
    if not validation:
        homes = [fixed_hash(*(f"{line.text} {line.answer}" for line in story)) for story in train]
        aside = set_aside(homes, {"validation": validation_fraction}, source, "stories")["validation"]
        validation = [story for story, home in zip(train, homes, strict=True) if home in aside]
        train = [story for story, home in zip(train, homes, strict=True) if home not in aside]
    evaluated = [_tasks(part, 1) for part in (validation, stories["test"])]
    trained = _tasks(train, questions_per_task)
    return Splits(
        train=StoredTasks(tasks=trained, seed=seed),
        validation=evaluated[0],
        test=evaluated[1],
        vocabulary=_vocabulary([*trained, *evaluated[0], *evaluated[1]]),
    )


def read_babi_tests(source: str | Path, *, tasks: Sequence[int] = ()) -> list[Task]:
    """Every question of the test stories, or of all stories if none of them is for testing."""
    stories = read_stories(source, tasks, "test")
    return _tasks(stories["test"] or [*stories["train"], *stories["validation"]], 1)


def _tasks(stories: Sequence[Story], questions_per_task: int) -> list[Task]:
    return [task for story in stories for task in _tasks_of(story, questions_per_task)]


def _tasks_of(story: Story, questions_per_task: int) -> Iterator[Task]:
    facts: list[str] = []
    places: dict[int, int] = {}
    asked: list[Task] = []
    for line in story:
        if line.answer is None:
            yield from _joined(asked, questions_per_task)
            asked = []
            places[line.number] = len(facts)
            facts.append(f"{len(facts) + 1} {line.text}")
        else:
            asked.append(Task(facts=tuple(facts), questions=(_question(line, places),), identifier=line.where))
    yield from _joined(asked, questions_per_task)


def _joined(asked: Sequence[Task], questions_per_task: int) -> Iterator[Task]:
    """Tasks with the same facts, ``questions_per_task`` of them as one, in which no question comes twice."""
    for start in range(0, len(asked), questions_per_task):
        group = asked[start : start + questions_per_task]
        yield replace(group[0], questions=tuple(dict.fromkeys(task.questions[0] for task in group)))


def _question(line: Line, places: Mapping[int, int]) -> Question:
    relevant = tuple(sorted({places[number] for number in line.support}))
    return Question(text=line.text, answer=line.answer, hops=len(relevant), relevant=relevant)


def _vocabulary(tasks: Sequence[Task]) -> list[str]:
    found: set[str] = set()
    for text in {text for task in tasks for text in task.facts}:
        found.update(words(text))
    for text in {text for task in tasks for q in task.questions for text in (q.text, q.answer)}:
        found.update(words(text))
    return sorted(found)
