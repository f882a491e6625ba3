"""metrics.jsonl: one JSON object a line, each with the method and its outer step; trackers hear the same numbers."""

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from reckoning_betty.checkpoint import replace_file


class MetricLog:
    """Appends to ``file`` and passes numbers on to the accelerator's trackers; in the main process alone."""

    def __init__(self, file: Path, accelerator: Accelerator):
        self.file = file
        self.accelerator = accelerator

    def write(self, method: str, step: int, values: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        with open(self.file, "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"method": method, "step": step} | values) + "\n")
        numbers = {f"{method}/{name}": value for name, value in values.items() if isinstance(value, int | float)}
        self.accelerator.log(numbers, step=step)

    def forget_after(self, method: str, step: int) -> None:
        """Drop what a killed run wrote about ``method`` after ``step``, where it goes on from."""
        if not self.accelerator.is_main_process:
            return
        kept = [entry for entry in read_metrics(self.file) if entry["method"] != method or entry["step"] <= step]
        text = "".join(json.dumps(entry) + "\n" for entry in kept)
        replace_file(self.file, lambda new: new.write_text(text, encoding="utf-8"))


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """All entries; a last line that a kill cut short is passed over."""
    entries = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries
