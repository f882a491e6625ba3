"""FOLIO: premises written by experts, and conclusions that are true, false or unknown given them."""

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reckoning_betty.data.held_out import fixed_hash, set_aside
from reckoning_betty.data.sources import DataFormat, Row, Tables, check_columns, named_splits, read_tables, text_of
from reckoning_betty.data.task import Question, Splits, StoredTasks, Task
from reckoning_betty.errors import UserError, require
from reckoning_betty.models.word_tokenizer import words

logger = logging.getLogger(__name__)

LABELS = {"true": "true", "false": "false", "unknown": "unknown", "uncertain": "unknown"}
"""Answers by the data's labels, which may be in any case; v0.0 says Unknown in training, Uncertain in validation."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row: whether ``conclusion`` follows from ``premises``. ``home`` is the same for the same set of premises."""

    premises: tuple[str, ...]
    conclusion: str
    label: str
    identifier: str
    home: str

    @property
    def question(self) -> Question:
        """FOLIO tells no proofs: every premise counts as relevant, and ``hops`` is the number of premises."""
        count = len(self.premises)
        return Question(text=self.conclusion, answer=self.label, hops=count, relevant=tuple(range(count)))


@dataclass(slots=True)
class ReorderedTasks:
    """Stored training tasks, visited in epochs; at every visit the facts stand in another order."""

    order: StoredTasks
    seed: int

    def draw(self, step: int, count: int) -> list[Task]:
        tasks = []
        for index, task in enumerate(self.order.draw(step, count)):
            places = list(range(len(task.facts)))
            random.Random(f"{self.seed} facts {step} {index}").shuffle(places)
            tasks.append(_reordered(task, places))
        return tasks


def read_folio(
    source: str | Path, *, validation_fraction: float = 0.1, test_fraction: float = 0.1, seed: int = 0
) -> Splits:
    """Training, validation and test tasks from a folder, a JSON-lines file, or a Hugging Face dataset.

    The official test set is not public. So the validation rows, where there are any (and no test rows), are the test,
    and validation is set aside from training; where there are training rows alone, both are. No set of premises is on
    two sides. In training the conclusions about the same premises are the questions of one task, and the premises
    stand in another order at every visit.

    Args:
        source: files whose names end in ``train.jsonl`` and ``validation.jsonl``, a single file (training rows unless
            its name tells otherwise), or a dataset.
        validation_fraction: share of the training rows' premise sets that validation takes. A fixed hash decides,
            whatever the seed.
        test_fraction: share of them that the test takes, where it has no rows of its own.
        seed: of the order of tasks and premises in training.

    Raises:
        UserError: what cannot be read, malformed rows (with their place), no training rows, too few premise sets.
    """
    _check_fractions(validation_fraction, test_fraction)
    tables = read_tables(source, FORMAT, unnamed="train")
    train, validation, test = _parts(tables, validation_fraction, test_fraction, source)
    if not train:
        raise UserError(f"{source} has no training rows; give a folder with a *train.jsonl file too, or only evaluate.")
    return Splits(
        train=ReorderedTasks(StoredTasks(tasks=_joined(train), seed=seed), seed),
        validation=_apart(validation),
        test=_apart(test),
        vocabulary=_vocabulary([*train, *validation, *test]),
    )


def read_folio_tests(source: str | Path, *, validation_fraction: float = 0.1, test_fraction: float = 0.1) -> list[Task]:
    """What ``read_folio`` with the same options would test on; of a single file whose name tells no split, all rows."""
    _check_fractions(validation_fraction, test_fraction)
    tables = read_tables(source, FORMAT, unnamed="test")
    return _apart(_parts(tables, validation_fraction, test_fraction, source)[2])


def _check_fractions(validation: float, test: float) -> None:
    for key, given in (("validation_fraction", validation), ("test_fraction", test)):
        require(0 < given < 1, f"data.{key}", given, "it lies between 0 and 1, such as 0.1")
    allowed = f"with data.validation_fraction={validation} it leaves nothing to train on"
    require(validation + test < 1, "data.test_fraction", test, allowed)


def _parts(
    tables: Tables, validation_fraction: float, test_fraction: float, source: str | Path
) -> tuple[list[Example], list[Example], list[Example]]:
    """Training, validation and test."""
    train, validation, test = ([_example(row) for row in tables[split]] for split in ("train", "validation", "test"))
    if not test:
        validation, test = [], validation
    validation = _without(validation, test, f"validation rows of {source}")
    train = _without(train, [*validation, *test], f"training rows of {source}")
    fractions = {} if test else {"test": test_fraction}
    fractions |= {} if validation else {"validation": validation_fraction}
    if train and fractions:
        aside = set_aside((example.home for example in train), fractions, source, "premise sets")
        test = test or [example for example in train if example.home in aside["test"]]
        validation = validation or [example for example in train if example.home in aside["validation"]]
        held_out = frozenset().union(*aside.values())
        train = [example for example in train if example.home not in held_out]
    return train, validation, test


def _without(examples: list[Example], held_out: Sequence[Example], what: str) -> list[Example]:
    """Those whose premises are not held out."""
    homes = {example.home for example in held_out}
    kept = [example for example in examples if example.home not in homes]
    if len(kept) < len(examples):
        logger.warning("%d %s are left out: other splits test their premises.", len(examples) - len(kept), what)
    return kept


def _joined(examples: Sequence[Example]) -> list[Task]:
    """One task for every set of premises, with all conclusions about them."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.home, []).append(example)
    tasks = []
    for first, *others in groups.values():
        same = [first, *(replace(other, premises=first.premises) for other in others)]
        tasks.append(replace(_task(first), questions=tuple(dict.fromkeys(example.question for example in same))))
    return tasks


def _apart(examples: Sequence[Example]) -> list[Task]:
    """One task for every conclusion, since evaluation asks a task's first question."""
    return [_task(example) for example in examples]


def _task(example: Example) -> Task:
    return Task(facts=example.premises, questions=(example.question,), identifier=example.identifier)


def _reordered(task: Task, places: Sequence[int]) -> Task:
    """Fact ``i`` of the result is fact ``places[i]`` of ``task``."""
    now = {place: position for position, place in enumerate(places)}
    return replace(
        task,
        facts=tuple(task.facts[place] for place in places),
        questions=tuple(replace(q, relevant=tuple(sorted(now[place] for place in q.relevant))) for q in task.questions),
    )


def _vocabulary(examples: Sequence[Example]) -> list[str]:
    found = {word for label in LABELS.values() for word in words(label)}
    for example in examples:
        for text in (*example.premises, example.conclusion):
            found.update(words(text))
    return sorted(found)


def _example(row: Row) -> Example:
    """Check a row and read it. UserError names the row, the column, what is wrong there and what is allowed."""
    premises = _premises(row)
    label = str(row.cells["label"]).strip()
    if label.lower() not in LABELS:
        raise UserError(
            f"{row.where}, column label: {label[:60]!r} is no label, allowed are True, False and Uncertain."
        )
    ids = [str(row.cells[key]) for key in ("story_id", "example_id") if row.cells.get(key) is not None]
    return Example(
        premises=premises,
        conclusion=_text(row, "conclusion"),
        label=LABELS[label.lower()],
        identifier=f"folio-{'-'.join(ids)}" if ids else row.where,
        home=fixed_hash(*sorted(set(premises))),
    )


def _premises(row: Row) -> tuple[str, ...]:
    """A list (v0.0), or one text with a premise a line (v2); blank ones, which v0.0 has, say nothing."""
    given = row.cells["premises"]
    lines = given.splitlines() if isinstance(given, str) else given
    if not isinstance(lines, list | tuple) or not all(isinstance(line, str) for line in lines):
        raise UserError(f"{row.where}, column premises: {str(given)[:60]!r} is neither a list of texts nor a text.")
    premises = tuple(line.strip() for line in lines if line.strip())
    if not premises:
        raise UserError(f"{row.where}, column premises: there are none, at least one is needed.")
    return premises


def _text(row: Row, column: str) -> str:
    given = row.cells[column]
    if not isinstance(given, str) or not given.strip():
        raise UserError(f"{row.where}, column {column}: {str(given)[:60]!r} is no text, or an empty one.")
    return given.strip()


def _read_json_lines(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(text_of(path, FORMAT.accepted).split("\n"), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError):
            cells = None
        if not isinstance(cells, dict):
            wanted = ", ".join(FORMAT.columns)
            raise UserError(f"{where}: {line[:60]!r} is no JSON object; a line of FOLIO's format is one with {wanted}.")
        check_columns(list(cells), where, FORMAT)
        rows.append(Row(cells, where))
    return rows


FORMAT = DataFormat(
    name="FOLIO",
    file_name=named_splits(".jsonl"),
    columns=("premises", "conclusion", "label"),
    read_file=_read_json_lines,
    accepted="a folder with folio-train.jsonl and folio-validation.jsonl, one such file, or a Hugging Face dataset "
    "such as yale-nlp/FOLIO",
)
