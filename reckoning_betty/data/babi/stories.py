"""bAbI's stories, line by line: the published files, files of the same format, and the hub's datasets."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reckoning_betty.data.sources import (
    DataFormat,
    Row,
    Tables,
    means_a_path,
    named_splits,
    no_rows,
    read_tables,
    text_of,
)
from reckoning_betty.errors import UserError, require

NUMBERS = range(1, 21)
"""The tasks of bAbI."""

TASK_OF_FILE = re.compile(r"qa(\d+)_.*")
QUESTION = (1, "1", "question")
"""How datasets mark a line that asks; the library may give the class as a number or by its name."""


@dataclass(frozen=True, slots=True)
class Line:
    """A numbered line of a story: a sentence, or a question with its answer and the sentences that support it."""

    number: int
    text: str
    answer: str | None
    support: tuple[int, ...]
    where: str


Story = tuple[Line, ...]


def read_stories(source: str | Path, tasks: Sequence[int], unnamed: Literal["train", "test"]) -> dict[str, list[Story]]:
    """The stories of the chosen ``tasks`` (none: of all) by split; a single file is read whatever its task.

    Raises:
        UserError: what cannot be read, malformed lines, tasks that are not there.
    """
    for number in tasks:
        require(number in NUMBERS, "data.tasks", number, f"bAbI's tasks are {NUMBERS[0]} to {NUMBERS[-1]}")
    tables = no_rows()
    for name in _names(source, tasks):
        for split, rows in read_tables(name, FORMAT, unnamed=unnamed).items():
            tables[split] += rows
    if tasks and Path(source).expanduser().is_dir():
        tables = _only(tables, tasks, source)
    return {split: [story for row in rows for story in _stories(row)] for split, rows in tables.items()}


def _names(source: str | Path, tasks: Sequence[int]) -> list[str]:
    """The source, or those configurations of a hub dataset that hold the tasks, one each."""
    name, _, config = str(source).partition(":")
    if means_a_path(source) or "qa" in config:
        return [str(source)]
    return [f"{name}:{config or 'en'}-qa{number}" for number in tasks or NUMBERS]


def _only(tables: Tables, tasks: Sequence[int], source: str | Path) -> Tables:
    """The rows of files of these tasks; rows that come from no file, and so tell no task, are all kept."""
    found = {row.cells.get("task") for rows in tables.values() for row in rows}
    if found == {None}:
        return tables
    there = sorted(found - {None})
    missing = ", ".join(str(number) for number in tasks if number not in there)
    allowed = f"{source} has no files of {missing}; take data.tasks={there}, or data.tasks=[] for all it has"
    require(not missing, "data.tasks", list(tasks), allowed)
    return {split: [row for row in rows if row.cells["task"] in tasks] for split, rows in tables.items()}


def _stories(row: Row) -> Iterator[Story]:
    """The stories of a file, or the one of a dataset's row."""
    lines = _lines_of_dataset(row) if "story" in row.cells else _lines_of_file(row)
    story: list[Line] = []
    for line in lines:
        if line.number == 1 and story:
            yield tuple(story)
            story = []
        if line.number != len(story) + 1:
            expected = f"{len(story) + 1} (or 1, for a new story)" if story else "1"
            raise UserError(f"{line.where}: its number is {line.number}, but {expected} must come here.")
        if line.answer is not None:
            _check_question(line, {before.number for before in story if before.answer is None})
        story.append(line)
    if story:
        yield tuple(story)


def _check_question(line: Line, sentences: set[int]) -> None:
    if not sentences:
        raise UserError(f"{line.where}: it asks {line.text[:60]!r} before any sentence of its story.")
    strange = [number for number in line.support if number not in sentences]
    if strange or not line.support:
        said = f"supporting line {strange[0]} is no sentence before the question" if strange else "no supporting line"
        raise UserError(f"{line.where}: {said}, allowed are the numbers of its story's earlier sentences.")


def _lines_of_file(row: Row) -> Iterator[Line]:
    for place, content in enumerate(row.cells["text"].split("\n"), 1):
        if not content.strip():
            continue
        where = f"{row.where}, line {place}"
        number, _, rest = content.strip().partition(" ")
        cells = [cell.strip() for cell in rest.split("\t")]
        if not number.isdecimal() or len(cells) not in (1, 3) or not all(cells[:2]):
            raise UserError(
                f"{where}: {content[:60]!r} is neither 'number sentence' nor "
                "'number question<tab>answer<tab>numbers of supporting lines'."
            )
        answer = cells[1] if len(cells) == 3 else None
        yield Line(int(number), cells[0], answer, _numbers(cells[2].split() if answer else (), where), where)


def _lines_of_dataset(row: Row) -> Iterator[Line]:
    story = row.cells["story"]
    if isinstance(story, Mapping):  # the library turns a sequence of records into a record of sequences
        story = [dict(zip(story, values, strict=True)) for values in zip(*story.values(), strict=True)]
    if not isinstance(story, list) or not all(isinstance(record, Mapping) for record in story):
        raise UserError(f"{row.where}, column story: {str(story)[:60]!r} is no list of lines; give {FORMAT.accepted}.")
    for place, record in enumerate(story, 1):
        where = f"{row.where}, line {place}"
        missing = [key for key in ("id", "type", "text", "supporting_ids", "answer") if key not in record]
        if missing:
            raise UserError(f"{where}, column story: {', '.join(missing)} is missing (found: {', '.join(record)}).")
        asks = record["type"] in QUESTION
        answer = str(record["answer"]).strip() if asks else None
        text = str(record["text"]).strip()
        if not text or answer == "":
            raise UserError(f"{where}, column story: it has no text, or is a question without an answer.")
        (number,) = _numbers([record["id"]], where)
        yield Line(number, text, answer, _numbers(record["supporting_ids"] if asks else (), where), where)


def _numbers(given: Iterable[object], where: str) -> tuple[int, ...]:
    for number in given:
        if not str(number).isdecimal():
            raise UserError(f"{where}: {number!r} is no line number.")
    return tuple(int(str(number)) for number in given)


def _read_file(path: Path) -> list[Row]:
    """The whole file as one row: most of a folder's files may not be wanted, so none is taken apart yet."""
    match = TASK_OF_FILE.fullmatch(path.name)
    return [Row({"text": text_of(path, FORMAT.accepted), "task": int(match[1]) if match else None}, str(path))]


FORMAT = DataFormat(
    name="bAbI",
    file_name=named_splits(".txt"),
    columns=("story",),
    read_file=_read_file,
    accepted="a folder with files such as qa1_single-supporting-fact_train.txt, one such file, or a Hugging Face "
    "dataset such as facebook/babi_qa:en-qa1",
)
