"""CLUTRR's CSV files as rows; what is in them besides CLUTRR's columns is left alone."""

import csv
import io
from pathlib import Path

from reckoning_betty.data.sources import (
    SPLIT_NAMES,
    DataFormat,
    Row,
    Tables,
    check_columns,
    named_splits,
    no_rows,
    text_of,
)
from reckoning_betty.data.sources import read_tables as read_tables_of
from reckoning_betty.errors import UserError


def read_tables(source: str | Path) -> Tables:
    """All rows of a folder, a file, or a dataset on the hub (``owner/name`` or ``owner/name:config``).

    A single file is test data, except for rows that its column ``task_split`` gives to another split. UserError if
    there is nothing there, if it cannot be read, or if it holds no row.
    """
    tables = read_tables_of(source, FORMAT)
    return _by_task_split(tables) if Path(source).expanduser().is_file() else tables


def _by_task_split(found: Tables) -> Tables:
    tables = no_rows()
    for row in (row for rows in found.values() for row in rows):
        split = str(row.cells.get("task_split") or "test").strip()
        if split not in SPLIT_NAMES:
            allowed = ", ".join(SPLIT_NAMES)
            raise UserError(f"{row.where}, column task_split: {split!r} is no split; allowed are {allowed} or nothing.")
        tables[SPLIT_NAMES[split]].append(row)
    return tables


def _read_csv(path: Path) -> list[Row]:
    """The rows of one file; lines count from 1, the header's, and a row is named by the line that it starts on."""
    rows = []
    reader = csv.reader(io.StringIO(text_of(path, FORMAT.accepted), newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise UserError(f"{path} is empty; it must start with the line of CLUTRR's column names.")
        check_columns(header, f"{path}, line 1", FORMAT)
        line = reader.line_num + 1
        for cells in reader:
            where, line = f"{path}, line {line}", reader.line_num + 1
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(f"{where}: has {len(cells)} cells, but the header names {len(header)} columns.")
            rows.append(Row(dict(zip(header, cells, strict=True)), where))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: not valid CSV ({error}); give a file in CLUTRR's format."
        ) from error
    return rows


FORMAT = DataFormat(
    name="CLUTRR",
    file_name=named_splits(".csv"),
    # the hub's version has the word of ``target`` in ``target_text``
    columns=("story", "query", "target", "story_edges", "edge_types", "genders"),
    read_file=_read_csv,
    accepted="a folder with *_train.csv and *_test.csv files, one CSV file, or a Hugging Face dataset such as "
    "CLUTRR/v1:NAME",
)
