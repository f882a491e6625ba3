"""The JSON file of a scaling measurement: every run of every cell, and what they come to."""

import os
import platform
import statistics
from pathlib import Path
from typing import Any

from reckoning_betty.benchmark.results import cpu_name
from reckoning_betty.errors import NotMeasured, UserError
from reckoning_betty.scaling.cells import ONE_PROCESS, Cell
from reckoning_betty.scaling.launcher import Run
from reckoning_betty.training.run_directory import commit, read_json, versions, write_json

Row = dict[str, Any]


class Results:
    """The runs so far, and the file that they are written to after each.

    Args:
        settings: all that decides about the numbers but the code: the run config, steps.

    Raises:
        UserError: the file holds something else, or runs of other settings or code.
    """

    def __init__(self, file: Path, settings: dict[str, Any]):
        self.file = file
        self.content: dict[str, Any] = {
            "machine": {
                "cpu": cpu_name(),
                "cpus": len(os.sched_getaffinity(0)),
                "system": platform.platform(),
                "python": platform.python_version(),
            },
            "settings": settings | {"commit": commit(), "versions": versions()},
            "rows": [],
        }
        if file.exists():
            found = read_json(file)
            parts = ("machine", "settings")
            if not isinstance(found, dict) or any(found.get(part) != self.content[part] for part in parts):
                raise UserError(
                    f"--output {file} holds other measurements (of another machine, commit or config): name a new "
                    "file, or delete this one."
                )
            self.content = found

    @property
    def rows(self) -> list[Row]:
        return self.content["rows"]

    def runs(self, cell: Cell) -> int:
        """How many runs there are of a cell."""
        return sum(len(row["runs"]) for row in self.rows if _cell(row) == cell)

    def add(self, cell: Cell, run: Run) -> None:
        row = self._row(cell)
        row["runs"].append(run)
        row |= {"status": "measured", "reason": ""}
        self._write()

    def refuse(self, cell: Cell, error: NotMeasured) -> None:
        """Note that a cell cannot be measured, and forget its runs, which may have been luck."""
        self._row(cell).update(runs=[], status=error.status, reason=error.reason)
        self._write()

    def _row(self, cell: Cell) -> Row:
        for row in self.rows:
            if _cell(row) == cell:
                return row
        self.rows.append({"strategy": cell.strategy, "processes": cell.processes, "runs": []})
        return self.rows[-1]

    def _write(self) -> None:
        self.rows.sort(key=lambda row: row["processes"])
        summarise(self.rows, self.content["settings"]["tasks_per_step"])
        write_json(self.file, self.content)


def summarise(rows: list[Row], tasks_per_step: int) -> None:
    """Set in each row what its runs come to.

    A run's time is the median of its outer steps, the row's the median over its runs; ``seconds_min`` and
    ``seconds_max`` are those of the runs. ``speed_up`` is the ratio of tasks per second to that of one process. Memory
    is the largest over processes and runs.
    """
    for row in rows:
        seconds = [statistics.median(run["seconds"]) for run in row["runs"]]
        median = statistics.median(seconds) if seconds else None
        row["seconds"] = median
        row["seconds_min"], row["seconds_max"] = min(seconds, default=None), max(seconds, default=None)
        row["tasks_per_second"] = tasks_per_step / median if median else None
        for key in ("peak_memory_mib", "memory_above_start_mib"):
            row[key] = max((max(run[key]) for run in row["runs"]), default=None)
    alone = next((row["tasks_per_second"] for row in rows if row["strategy"] == ONE_PROCESS), None)
    for row in rows:
        both = alone and row["tasks_per_second"]
        row["speed_up"] = row["tasks_per_second"] / alone if both else None


def _cell(row: Row) -> Cell:
    return Cell(row["strategy"], row["processes"])
