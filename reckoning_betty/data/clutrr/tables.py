"""Where CLUTRR rows come from: CSV files (plain or gzipped), folders of them, and Hugging Face datasets."""

import csv
import difflib
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from reckoning_betty.errors import UserError

SPLIT_NAMES = {"train": "train", "valid": "validation", "validation": "validation", "dev": "validation", "test": "test"}
CSV_NAME = re.compile(r"(?:.*[_.-])?(train|valid|validation|dev|test)\.csv(?:\.gz)?")
HUB_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+(?::[\w.,-]+)?")
DISK_MARKS = ("dataset_dict.json", "state.json")
"""Files that ``save_to_disk`` of Hugging Face datasets leaves in a folder."""

COLUMNS = ("story", "query", "target", "story_edges", "edge_types", "genders")
"""The columns that every row needs; the hub's version has the word of ``target`` in ``target_text``."""

FORMATS = (
    "a folder with *_train.csv and *_test.csv files, one CSV file, or a Hugging Face dataset such as CLUTRR/v1:NAME"
)


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row by column, and where it stands, to name it in messages."""

    cells: dict[str, object]
    where: str


Tables = dict[str, list[Row]]
"""Rows by split: "train", "validation" and "test", each possibly empty."""


def read_tables(source: str | Path) -> Tables:
    """All rows of a folder, a file, or a dataset on the hub (``owner/name`` or ``owner/name:config``).

    A single file is test data, except for rows that its column ``task_split`` gives to another split. UserError if
    there is nothing there, if it cannot be read, or if it holds no row.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        tables = _read_folder(path)
    elif path.exists():
        tables = _read_one(path)
    elif _means_a_path(str(source), path):
        raise UserError(f"{path} was not found{_nearby(path)}; give {FORMATS}.")
    else:
        tables = _read_dataset(str(source))
    if not any(tables.values()):
        raise UserError(f"{source} holds no rows; give {FORMATS}.")
    return tables


def _empty() -> Tables:
    return {"train": [], "validation": [], "test": []}


def _read_folder(folder: Path) -> Tables:
    if any((folder / mark).exists() for mark in DISK_MARKS):
        return _read_dataset(str(folder), on_disk=True)
    tables = _empty()
    files = [(file, match) for file in sorted(folder.iterdir()) if (match := CSV_NAME.fullmatch(file.name))]
    for file, match in files:
        tables[SPLIT_NAMES[match[1]]] += _read_csv(file)
    return tables if files else _read_dataset(str(folder))


def _read_one(path: Path) -> Tables:
    tables = _empty()
    for row in _read_csv(path):
        split = str(row.cells.get("task_split") or "test").strip()
        if split not in SPLIT_NAMES:
            allowed = ", ".join(SPLIT_NAMES)
            raise UserError(f"{row.where}, column task_split: {split!r} is no split; allowed are {allowed} or nothing.")
        tables[SPLIT_NAMES[split]].append(row)
    return tables


def _read_csv(path: Path) -> list[Row]:
    """The rows of one file; lines count from 1, the header's, and a row is named by the line that it starts on."""
    rows = []
    reader = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise UserError(f"{path} is empty; it must start with the line of CLUTRR's column names.")
        _check_columns(header, f"{path}, line 1")
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


def _check_columns(found: list[str], where: str) -> None:
    missing = [column for column in COLUMNS if column not in found]
    if missing:
        raise UserError(
            f"{where}: columns that CLUTRR's format needs are missing: {', '.join(missing)} (found: "
            f"{', '.join(column[:30] for column in found[:20] if column)}); give {FORMATS}."
        )


def _content(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text; save the file with the encoding UTF-8.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a complete gzip file ({error}); fetch it again or give it unpacked.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give {FORMATS}.") from error


def _means_a_path(source: str, path: Path) -> bool:
    """Whether a name that does not exist was meant as a path and not as one of the hub's."""
    if path.suffix in (".csv", ".gz") or not HUB_NAME.fullmatch(source):
        return True
    return "/" in source and path.parent.exists()


def _nearby(path: Path) -> str:
    """What stands nearest to a missing path: names alike in its folder, else the first ones there."""
    folder = path.parent
    if not folder.is_dir():
        return f" (nor was its folder {folder})"
    names = sorted(entry.name for entry in folder.iterdir())
    alike = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5) or names[:3]
    return f" (in {folder} there are: {', '.join(alike)})" if alike else f" ({folder} is empty)"


def _read_dataset(name: str, *, on_disk: bool = False) -> Tables:
    """Rows through Hugging Face ``datasets``: a hub name, a folder that it can open, or one written by it."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{name} needs the package datasets; type: pip install datasets, or give CSV files.") from error
    try:
        loaded = datasets.load_from_disk(name) if on_disk else _load_dataset(name)
    # The library raises errors of many unrelated classes (its own, the hub's, the network's), all with a useful text.
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(f"{name} cannot be opened by Hugging Face datasets ({reason}); give {FORMATS}.") from error
    if not isinstance(loaded, dict):
        loaded = {str(loaded.split or "test"): loaded}
    tables = _empty()
    for split, rows in loaded.items():
        if split in SPLIT_NAMES:
            _check_columns(rows.column_names, f"{name}, {split}")
            tables[SPLIT_NAMES[split]] += [Row(row, f"{name}, {split} row {n}") for n, row in enumerate(rows, 1)]
    return tables


def _load_dataset(name: str) -> dict:
    import datasets

    path, _, config = name.partition(":") if not Path(name).exists() else (name, "", "")
    try:
        return datasets.load_dataset(path, config or None)
    except RuntimeError as error:
        # Datasets that consist of a loading script, CLUTRR/v1 among them, are no longer run by the library; the hub
        # keeps a converted copy of them on this branch.
        if "scripts are no longer supported" not in str(error):
            raise
        return datasets.load_dataset(path, config or None, revision="refs/convert/parquet")
