"""Where ProofWriter rows come from: JSON and JSON-lines files (plain or gzipped), folders, Hugging Face datasets."""

import difflib
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reckoning_betty.errors import UserError

SPLIT_NAMES = {"train": "train", "valid": "validation", "validation": "validation", "dev": "validation", "test": "test"}
FILE_NAME = re.compile(r"(?!meta-(?:stage|abduct)-)(?:.*[_.-])?(train|valid|validation|dev|test)\.jsonl?(?:\.gz)?")
"""AllenAI's meta-stage and meta-abduct files hold other tasks."""
HUB_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+(?::[\w.,-]+)?")
DISK_MARKS = ("dataset_dict.json", "state.json")
"""Files that ``save_to_disk`` of Hugging Face datasets leaves in a folder."""

UNREAD = re.compile(r"NatLang|birds-electricity|depth-3ext")
"""Hub rows of these configurations are passed over: crowd-written or of another grammar, or copies of other ones."""

FORMATS = (
    "a folder with *train*.json or *train*.jsonl files, one such file, or a Hugging Face dataset such as "
    "tasksource/proofwriter:depth-5"
)


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one row by column, and where it stands, to name it in messages."""

    cells: dict[str, object]
    where: str


Tables = dict[str, list[Row]]
"""Rows by split: "train", "validation" and "test", each possibly empty; "" for a file whose name tells no split."""


def read_tables(source: str | Path) -> Tables:
    """All rows of a folder, a file, or a dataset on the hub (``owner/name`` or ``owner/name:config``).

    UserError if there is nothing there, if it cannot be read, or if it holds no row.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        tables = _read_folder(path)
    elif path.exists():
        match = FILE_NAME.fullmatch(path.name)
        tables = _empty() | {SPLIT_NAMES[match[1]] if match else "": list(_read_file(path))}
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
    for file in sorted(folder.iterdir()):
        if match := FILE_NAME.fullmatch(file.name):
            tables[SPLIT_NAMES[match[1]]] += _read_file(file)
    if any(tables.values()):
        return tables
    below = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if any(FILE_NAME.fullmatch(file.name) for name in below for file in (folder / name).iterdir()):
        raise UserError(f"{folder} holds several data sets; give one of its folders {', '.join(below)}.")
    return _read_dataset(str(folder))


def _read_file(path: Path) -> Iterator[Row]:
    text = _content(path)
    if ".jsonl" in path.suffixes:
        for number, line in enumerate(text.splitlines(), 1):
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
    if path.suffix in (".json", ".jsonl", ".gz") or not HUB_NAME.fullmatch(source):
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
    """Rows through Hugging Face ``datasets``: a hub name, a folder that it can open, or one written by it.

    What stands after a colon is looked for in the column ``config``.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"{name} needs the package datasets; type: pip install datasets, or give JSON files."
        ) from error
    path, _, config = (name, "", "") if Path(name).exists() else name.partition(":")
    try:
        loaded = datasets.load_from_disk(path) if on_disk else datasets.load_dataset(path)
    # The library raises errors of many unrelated classes (its own, the hub's, the network's), all with a useful text.
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(f"{name} cannot be opened by Hugging Face datasets ({reason}); give {FORMATS}.") from error
    if not isinstance(loaded, dict):
        loaded = {str(loaded.split or "test"): loaded}
    tables, found = _empty(), set()
    for split, rows in loaded.items():
        if split not in SPLIT_NAMES:
            continue
        if "config" in rows.column_names:
            found |= set(rows.unique("config"))
            wanted = {config} if config else {one for one in found if not UNREAD.search(str(one))}
            rows = rows.select([at for at, one in enumerate(rows["config"]) if one in wanted])
        tables[SPLIT_NAMES[split]] += [Row(row, f"{name}, {split} row {n}") for n, row in enumerate(rows, 1)]
    if config and config not in found:
        raise UserError(
            f"{name}: it has no rows of {config!r}; its configurations are {', '.join(sorted(found)) or 'none'}."
        )
    return tables
