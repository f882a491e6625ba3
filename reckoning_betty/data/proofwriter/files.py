"""ProofWriter's files: JSON lists, JSON lines, and the configurations that its dataset on the hub has in a column."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from reckoning_betty.data.sources import (
    SPLIT_NAMES,
    DataFormat,
    Row,
    Tables,
    means_a_path,
    read_tables,
    text_of,
)
from reckoning_betty.errors import UserError

FILE_NAME = re.compile(rf"(?!meta-(?:stage|abduct)-)(?:.*[_.-])?(?P<split>{'|'.join(SPLIT_NAMES)})\.jsonl?(?:\.gz)?")
"""AllenAI's meta-stage and meta-abduct files hold other tasks."""

UNREAD = re.compile(r"NatLang|birds-electricity|depth-3ext")
"""Rows of these configurations are passed over: crowd-written or of another grammar, or copies of other ones."""

FORMATS = (
    "a folder with *train*.json or *train*.jsonl files, one such file, or a Hugging Face dataset such as "
    "tasksource/proofwriter:depth-5"
)


def read_rows(source: str | Path, unnamed: Literal["train", "test"]) -> Tables:
    """All rows of a folder, a file, or a dataset on the hub (``owner/name``, or ``owner/name:config``).

    Args:
        source: what the user gave.
        unnamed: the split of a file whose name tells none.

    Raises:
        UserError: nothing there, unreadable, no row, or no row of the configuration.
    """
    name, _, config = (str(source), "", "") if means_a_path(source) else str(source).partition(":")
    tables = read_tables(name, FORMAT, unnamed=unnamed)
    found = {str(row.cells["config"]) for rows in tables.values() for row in rows if "config" in row.cells}
    if config and config not in found:
        told = ", ".join(sorted(found)) or "none"
        raise UserError(f"{source}: it has no rows of {config!r}; its configurations are {told}.")
    wanted = {config} if config else {one for one in found if not UNREAD.search(one)}
    return {
        split: [row for row in rows if "config" not in row.cells or str(row.cells["config"]) in wanted]
        for split, rows in tables.items()
    }


def _read_file(path: Path) -> list[Row]:
    return list(_rows(path))


def _rows(path: Path) -> Iterator[Row]:
    text = text_of(path, FORMATS)
    if ".jsonl" in path.suffixes:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield _row(_parsed(line, path, number), f"{path}, line {number}")
        return
    rows = _parsed(text, path)
    if not isinstance(rows, list):
        raise UserError(f"{path} must hold a JSON list of rows, not one {type(rows).__name__}; give {FORMATS}.")
    for number, cells in enumerate(rows, 1):
        yield _row(cells, f"{path}, row {number}")


def _row(cells: object, where: str) -> Row:
    if not isinstance(cells, dict):
        raise UserError(f"{where}: must be a JSON object with columns, not {str(cells)[:40]!r}.")
    return Row(cells, where)


def _parsed(text: str, path: Path, line: int = 0) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {line or error.lineno}: not valid JSON ({error.msg}); give a file in one of ProofWriter's "
            "formats."
        ) from error


FORMAT = DataFormat(name="ProofWriter", file_name=FILE_NAME, columns=(), read_file=_read_file, accepted=FORMATS)
