"""One CLUTRR row, checked and made sense of: who is who, what is given, what is asked, and how it is proved."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from reckoning_betty.data.clutrr.kinship import FEMALE, MALE, RELATIONS
from reckoning_betty.data.sources import Row
from reckoning_betty.errors import UserError

Triple = tuple[str, str, str]

MISSPELT = {"neice": "niece"}


@dataclass(frozen=True, slots=True)
class Puzzle:
    """``given`` are the facts along the way from ``query[0]`` to ``query[1]``, of which ``target`` is the conclusion.

    ``noise_edges`` counts the distractors: the file tells them in ``story`` only, and not with their relations.
    ``conclusions`` maps every intermediate conclusion of the proof to the given facts that it rests on.
    """

    genders: dict[str, str]
    given: tuple[Triple, ...]
    noise_edges: int
    query: tuple[str, str]
    target: str
    conclusions: dict[Triple, frozenset[Triple]]
    story: str
    clean_story: str
    identifier: str
    where: str


def parse_row(row: Row) -> Puzzle:
    """Check a row and read it. UserError names the row, the column, what is wrong there and what is allowed."""
    genders = _genders(row)
    names = tuple(genders)
    edges = _edges(row, names)
    types = [_relation(row, "edge_types", word) for word in _list(row, "edge_types")]
    if not types:
        raise _wrong(row, "edge_types", "it names no relation, at least one is needed")
    if len(types) > len(edges):
        raise _wrong(row, "edge_types", f"it has {len(types)} relations for {len(edges)} story_edges")
    given = tuple((names[x], word, names[y]) for (x, y), word in zip(edges, types, strict=False))
    query = _query(row, names)
    target_column = "target_text" if row.cells.get("target_text") else "target"
    target = _relation(row, target_column, _cell(row, target_column))
    return Puzzle(
        genders=genders,
        given=given,
        noise_edges=len(edges) - len(types),
        query=query,
        target=target,
        conclusions=_conclusions(row, given, (query[0], target, query[1])),
        story=str(_cell(row, "story")),
        clean_story=str(row.cells.get("clean_story") or ""),
        identifier=str(row.cells.get("id") or row.where),
        where=row.where,
    )


def _wrong(row: Row, column: str, reason: str) -> UserError:
    return UserError(f"{row.where}, column {column}: {reason}.")


def _cell(row: Row, column: str) -> object:
    value = row.cells[column]
    if value is None or value == "":
        raise _wrong(row, column, "it is empty")
    return value


def _literal(row: Row, column: str) -> object:
    """The Python literal in a cell; Hugging Face datasets may hand over the list itself."""
    value = _cell(row, column)
    if not isinstance(value, str):
        return value
    try:
        return _parse(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise _wrong(row, column, f"{value[:60]!r} is no Python literal") from error


@functools.lru_cache(maxsize=4096)
def _parse(literal: str) -> object:
    """Remembered, since thousands of rows share their edges; nobody may change what comes out."""
    return ast.literal_eval(literal)


def _list(row: Row, column: str) -> list | tuple:
    value = _literal(row, column)
    if not isinstance(value, list | tuple):
        raise _wrong(row, column, f"{value!r} is no list")
    return value


def _relation(row: Row, column: str, word: object) -> str:
    word = MISSPELT.get(word, word) if isinstance(word, str) else word
    if word not in RELATIONS:
        raise _wrong(row, column, f"{word!r} is no relation, allowed are {', '.join(RELATIONS)}")
    return word


def _genders(row: Row) -> dict[str, str]:
    """The people in the order of their numbers, each with a gender."""
    genders: dict[str, str] = {}
    for entry in str(_cell(row, "genders")).split(","):
        name, _, gender = entry.strip().rpartition(":")
        if not name or gender not in (MALE, FEMALE):
            raise _wrong(row, "genders", f"{entry!r} is not of the form Name:{MALE} or Name:{FEMALE}")
        if name in genders:
            raise _wrong(row, "genders", f"{name!r} is named twice, everyone needs a name of their own")
        genders[name] = gender
    return genders


def _edges(row: Row, names: tuple[str, ...]) -> list[tuple[int, int]]:
    edges = []
    for edge in _list(row, "story_edges"):
        if not (isinstance(edge, list | tuple) and len(edge) == 2 and all(isinstance(node, int) for node in edge)):
            raise _wrong(row, "story_edges", f"{edge!r} is no pair of numbers")
        if not all(0 <= node < len(names) for node in edge):
            allowed = f"genders names {len(names)} people, so allowed are 0 to {len(names) - 1}"
            raise _wrong(row, "story_edges", f"{edge!r} names a person out of range, {allowed}")
        edges.append((edge[0], edge[1]))
    mentioned = {node for edge in edges for node in edge}
    if len(mentioned) != len(names):
        raise _wrong(row, "genders", f"it names {len(names)} people, but story_edges connects {len(mentioned)}")
    return edges


def _query(row: Row, names: tuple[str, ...]) -> tuple[str, str]:
    query = _list(row, "query")
    if len(query) != 2 or query[0] == query[1]:
        raise _wrong(row, "query", f"{query!r} is no pair of two people")
    for name in query:
        if name not in names:
            raise _wrong(row, "query", f"{name!r} is not in the story, allowed are {', '.join(names)}")
    return (query[0], query[1])


def _steps(row: Row) -> Iterator[tuple[Triple, list[Triple]]]:
    """The conclusions of ``proof_state``, each with its premises; nothing if the column is missing or empty."""
    if not row.cells.get("proof_state"):
        return
    for step in _list(row, "proof_state"):
        if not isinstance(step, dict):
            raise _wrong(row, "proof_state", f"{step!r} is not of the form {{conclusion: [premise, premise]}}")
        for conclusion, premises in step.items():
            if not isinstance(premises, list | tuple) or not premises:
                raise _wrong(row, "proof_state", f"{premises!r} is no list of premises")
            yield _triple(row, conclusion), [_triple(row, premise) for premise in premises]


def _triple(row: Row, value: object) -> Triple:
    if not (isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(part, str) for part in value)):
        raise _wrong(row, "proof_state", f"{value!r} is not of the form (name, relation, name)")
    return (value[0], _relation(row, "proof_state", value[1]), value[2])


def _conclusions(row: Row, given: tuple[Triple, ...], goal: Triple) -> dict[Triple, frozenset[Triple]]:
    """Follow the proof down to the given facts, for every conclusion but the goal and the given facts themselves."""
    steps = dict(_steps(row))
    facts = frozenset(given)

    def support(triple: Triple, above: tuple[Triple, ...]) -> frozenset[Triple]:
        if triple in facts:
            return frozenset((triple,))
        if triple not in steps or triple in above:
            raise _wrong(row, "proof_state", f"{triple!r} is used, but neither given by edge_types nor proved")
        return frozenset().union(*(support(premise, (*above, triple)) for premise in steps[triple]))

    return {triple: support(triple, ()) for triple in steps if triple != goal and triple not in facts}
