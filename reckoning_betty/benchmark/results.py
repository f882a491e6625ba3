"""The JSON file of a benchmark: what it holds, and which of its rows need not be measured again."""

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import reckoning_betty
from reckoning_betty.benchmark.measure import Row, row_key
from reckoning_betty.errors import UserError
from reckoning_betty.training.run_directory import commit, read_json, versions, write_json

MEASURED_CODE = ("inner", "models", "benchmark")
"""The packages whose change makes a row out of date."""

PEER_PACKAGES = ("higher", "torchopt", "boat-torch")
FINAL = ("measured", "does not fit")
"""What a row says that is as true the next time; a missing or failing engine may be mended."""


class Results:
    """The rows so far, and the file that they are written to after each.

    Args:
        settings: what else decides about the numbers: threads, runs.
    """

    def __init__(self, file: Path, settings: dict[str, Any]):
        self.file = file
        self.stamp = settings | {"code": _fingerprint()}
        self.commit = commit()
        self.rows: list[Row] = []
        self.machine: dict[str, Any] = {}
        if file.exists():
            content = read_json(file)
            if not isinstance(content.get("rows"), list):
                raise UserError(f"--output {file} is no file of a benchmark; name another, or a new one.")
            self.rows = content["rows"]
            self.machine = content.get("machine", {})

    def has(self, key: tuple) -> bool:
        """Whether this row was measured by the same code, with the same settings."""
        return any(row_key(row) == key and row["status"] in FINAL and self._is_current(row) for row in self.rows)

    def current(self) -> list[Row]:
        """The rows of the same code and settings."""
        return [row for row in self.rows if self._is_current(row)]

    def add(self, row: Row) -> None:
        """Take the row in, in place of an earlier one about the same, and write the file."""
        row = row | {"commit": self.commit} | self.stamp
        key = row_key(row)
        places = [i for i, old in enumerate(self.rows) if row_key(old) == key]
        if places:
            self.rows[places[0]] = row
        else:
            self.rows.append(row)
        self.write()

    def write(self) -> None:
        write_json(self.file, {"machine": self.machine, "rows": self.rows})

    def _is_current(self, row: Row) -> bool:
        return all(row.get(name) == value for name, value in self.stamp.items())


def describe_machine(threads: int, matmul_rate: float) -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "threads": threads,
        "matmul_gflops": matmul_rate,
        "matmul": "2048 x 2048 x 2048, float32, median",
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions() | {name: _version(name) for name in PEER_PACKAGES},
        "commit": commit(),
    }


def _fingerprint() -> str:
    root = Path(reckoning_betty.__file__).parent
    files = sorted(file for folder in MEASURED_CODE for file in (root / folder).rglob("*.py"))
    code = hashlib.sha256()
    for file in files:
        if file.name not in ("report.py", "results.py"):
            code.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return code.hexdigest()[:12]


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
