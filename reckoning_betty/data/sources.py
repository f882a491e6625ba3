"""Where rows of data come from: files (plain or gzipped), folders of them, and Hugging Face datasets."""

import difflib
import gzip
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reckoning_betty.errors import UserError

SPLIT_NAMES = {"train": "train", "valid": "validation", "validation": "validation", "dev": "validation", "test": "test"}
HUB_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+(?::[\w.,-]+)?")
DISK_MARKS = ("dataset_dict.json", "state.json")
"""Files that ``save_to_disk`` of Hugging Face datasets leaves in a folder."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row by column, and where it stands, to name it in messages."""

    cells: Mapping[str, object]
    where: str


Tables = dict[str, list[Row]]
"""Rows by split: "train", "validation" and "test", each possibly empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFormat:
    """How the files of a kind of data are told and read."""

    name: str
    """Whose format it is, for messages."""
    file_name: re.Pattern
    """The names of its files; the group ``split`` is one of ``SPLIT_NAMES``."""
    columns: tuple[str, ...]
    """What every row of a dataset needs."""
    read_file: Callable[[Path], list[Row]]
    """The rows of one file. Raises UserError with the line for what it cannot read."""
    accepted: str
    """What can be given, for messages."""

    def required(self, path: str | None, problem: str) -> str:
        """``path``, for a problem that has no data of its own.

        Raises:
            UserError: it is None.
        """
        if path is None:
            raise UserError(f"{problem} has no embedded data: --data takes {self.accepted}.")
        return path


def named_splits(suffix: str) -> re.Pattern:
    """The names of files that end in a split and ``suffix``, gzipped or not: ``1.3_train.csv``, ``dev.csv.gz``."""
    return re.compile(rf"(?:.*[_.-])?(?P<split>{'|'.join(SPLIT_NAMES)}){re.escape(suffix)}(?:\.gz)?")


def read_tables(source: str | Path, form: DataFormat, *, unnamed: Literal["train", "test"] = "test") -> Tables:
    """All rows of a folder, a file, or a dataset on the hub (``owner/name`` or ``owner/name:config``).

    A single file belongs to the split that its name tells, or to ``unnamed``. UserError if there is nothing there, if
    it cannot be read, or if it holds no row.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        tables = _read_folder(path, form)
    elif path.exists():
        match = form.file_name.fullmatch(path.name)
        tables = no_rows() | {SPLIT_NAMES[match["split"]] if match else unnamed: form.read_file(path)}
    elif means_a_path(source):
        raise UserError(f"{path} was not found{_nearby(path)}; give {form.accepted}.")
    else:
        tables = _read_dataset(str(source), form)
    if not any(tables.values()):
        raise UserError(f"{source} holds no rows; give {form.accepted}.")
    return tables


def means_a_path(source: str | Path) -> bool:
    """Whether a path is there or, if not, was meant, and not a name on the hub."""
    path = Path(source).expanduser()
    if (
        path.exists()
        or path.suffix in (".csv", ".gz", ".json", ".jsonl", ".txt")
        or not HUB_NAME.fullmatch(str(source))
    ):
        return True
    return "/" in str(source) and path.parent.exists()


def no_rows() -> Tables:
    """Tables to be filled."""
    return {"train": [], "validation": [], "test": []}


def check_columns(found: list[str], where: str, form: DataFormat) -> None:
    """UserError if a column that the format needs is missing."""
    missing = [column for column in form.columns if column not in found]
    if missing:
        raise UserError(
            f"{where}: columns that {form.name}'s format needs are missing: {', '.join(missing)} (found: "
            f"{', '.join(column[:30] for column in found[:20] if column)}); give {form.accepted}."
        )


def text_of(path: Path, accepted: str) -> str:
    """The text of a file, unpacked if it is gzipped. UserError if it cannot be read or is not UTF-8, with the line."""
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
        raise UserError(f"{path} cannot be read ({error.strerror}); give {accepted}.") from error


def _read_folder(folder: Path, form: DataFormat) -> Tables:
    if any((folder / mark).exists() for mark in DISK_MARKS):
        return _read_dataset(str(folder), form, on_disk=True)
    tables = no_rows()
    files = [(file, match) for file in sorted(folder.iterdir()) if (match := form.file_name.fullmatch(file.name))]
    for file, match in files:
        tables[SPLIT_NAMES[match["split"]]] += form.read_file(file)
    if files:
        return tables
    below = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and _has_files(entry, form)]
    if below:
        raise UserError(f"{folder} holds no {form.name} files itself; give a folder below it that does: {below[0]}.")
    return _read_dataset(str(folder), form)


def _has_files(folder: Path, form: DataFormat) -> bool:
    return any(form.file_name.fullmatch(file.name) for file in folder.iterdir())


def _nearby(path: Path) -> str:
    """What stands nearest to a missing path: names alike in its folder, else the first ones there."""
    folder = path.parent
    if not folder.is_dir():
        return f" (nor was its folder {folder})"
    names = sorted(entry.name for entry in folder.iterdir())
    alike = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5) or names[:3]
    return f" (in {folder} there are: {', '.join(alike)})" if alike else f" ({folder} is empty)"


def _read_dataset(name: str, form: DataFormat, *, on_disk: bool = False) -> Tables:
    """Rows through Hugging Face ``datasets``: a hub name, a folder that it can open, or one written by it."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{name} needs the package datasets; type: pip install datasets, or give files.") from error
    try:
        loaded = datasets.load_from_disk(name) if on_disk else _load_dataset(name)
    # The library raises errors of many unrelated classes (its own, the hub's, the network's), all with a useful text.
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"{name} cannot be opened by Hugging Face datasets ({reason}); give {form.accepted}."
        ) from error
    if not isinstance(loaded, dict):
        loaded = {str(loaded.split or "test"): loaded}
    tables = no_rows()
    for split, rows in loaded.items():
        if split in SPLIT_NAMES:
            check_columns(rows.column_names, f"{name}, {split}", form)
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
