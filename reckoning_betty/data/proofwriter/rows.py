"""One row in any of ProofWriter's formats: its sentences, and what is asked about them."""

from collections.abc import Iterator
from typing import NamedTuple

from reckoning_betty.data.proofwriter.parsing import split_sentences
from reckoning_betty.data.proofwriter.words import ANSWERS
from reckoning_betty.data.sources import Row
from reckoning_betty.errors import UserError


class Entry(NamedTuple):
    """A question as the file has it."""

    sentences: tuple[str, ...]
    hypothesis: str
    answer: str
    identifier: str
    where: str


def read_row(row: Row) -> Iterator[Entry]:
    """The questions of a row, by the columns that it has:

    - ``context, question, options, answer``: Logic-LLM's, the hypothesis being the question's last sentence;
    - ``theory, question, answer``: those of ``tasksource/proofwriter``;
    - ``triples, rules, questions``: AllenAI's ``meta-*.jsonl``, a theory with all its questions.

    UserError names the row, the column, what is wrong there and what is allowed.
    """
    if "questions" in row.cells:
        yield from _theory(row)
    elif "context" in row.cells:
        _, _, hypothesis = _text(row, "question").rpartition("? ")
        yield _entry(row, split_sentences(_text(row, "context")), hypothesis, _option(row))
    else:
        yield _entry(row, split_sentences(_text(row, "theory")), _text(row, "question"), _cell(row, "answer"))


def _entry(row: Row, sentences: list[str], hypothesis: str, answer: object, number: str = "") -> Entry:
    word = str(answer).lower()
    if word not in ANSWERS:
        raise _wrong(row, "answer", f"{answer!r} is no answer, allowed are True, False and Unknown", number)
    identifier = str(row.cells.get("id") or row.where) + (f"_{number}" if number else "")
    where = f"{row.where}, {number}" if number else row.where
    return Entry(tuple(sentences), hypothesis.strip(), word, identifier, where)


def _theory(row: Row) -> Iterator[Entry]:
    sentences = [
        _inner_text(row, column, entry)
        for column in ("triples", "rules")
        for entry in _mapping(row, column).values()
        if entry
    ]
    for number, question in _mapping(row, "questions").items():
        if question is None:
            continue
        for key in ("question", "answer"):
            if not isinstance(question, dict) or key not in question:
                raise _wrong(row, "questions", f"it has no {key!r}", number)
        yield _entry(row, sentences, str(question["question"]), question["answer"], number)


def _inner_text(row: Row, column: str, entry: object) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise _wrong(row, column, f"{str(entry)[:60]!r} has no 'text'")
    return entry["text"]


def _option(row: Row) -> str:
    """The word of the letter in ``answer``."""
    answer = str(_cell(row, "answer")).strip()
    options = row.cells.get("options")
    if not isinstance(options, list):
        raise _wrong(row, "options", f"{options!r} is no list such as ['A) True', 'B) False', 'C) Unknown']")
    for option in options:
        letter, _, word = str(option).partition(")")
        if letter.strip() == answer:
            return word.strip()
    raise _wrong(row, "answer", f"{answer!r} is none of the options {', '.join(map(str, options))}")


def _cell(row: Row, column: str) -> object:
    if column not in row.cells:
        found = ", ".join(str(name)[:30] for name in list(row.cells)[:12])
        raise _wrong(row, column, f"it is missing (found are: {found or 'no columns'})")
    value = row.cells[column]
    if value is None or value == "":
        raise _wrong(row, column, "it is empty")
    return value


def _text(row: Row, column: str) -> str:
    value = _cell(row, column)
    if not isinstance(value, str):
        raise _wrong(row, column, f"{str(value)[:60]!r} is no text")
    return value


def _mapping(row: Row, column: str) -> dict:
    value = _cell(row, column)
    if not isinstance(value, dict):
        raise _wrong(row, column, f"{str(value)[:60]!r} is no object with an entry for each of them")
    return value


def _wrong(row: Row, column: str, reason: str, number: str = "") -> UserError:
    return UserError(f"{row.where}{f', {number}' if number else ''}, column {column}: {reason}.")
