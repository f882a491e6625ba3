"""An experiment in units of work: training runs in folders named after their configs, so that equal ones are shared.

A unit that is done is never run again; one that was stopped goes on from its last save. Results files keep what is told
of every unit, so that an experiment can go on where its runs' folders are gone, as on another machine.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from reckoning_betty.config import TRAINING_SECTIONS, RunConfig
from reckoning_betty.training.metrics import read_metrics
from reckoning_betty.training.run_directory import RunDirectory, read_json


@dataclass(frozen=True, slots=True)
class Unit:
    """One training run.

    Args:
        config: its run config, resolved.
        root: the folder of all units.
        known: outcomes by identity that were found before.
    """

    config: RunConfig
    root: Path
    known: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Equal for equal configs.

        What has its default is left out, so that new options leave old runs their names, and so are the sections that
        no method of the run is trained by: an arm's budget is no part of another arm's name.
        """
        config, kinds = self.config, (self.config.problem, self.config.hypergradient)
        used = {config.section(method) for method in config.methods}
        default = RunConfig(
            problem=config.problem,
            data=type(config.data)(),
            hypergradient=config.hypergradient,
            hypergradient_options=type(config.hypergradient_options)(),
        )
        changed = _changed(asdict(config), asdict(default))
        named = {key: value for key, value in changed.items() if key in used or key not in TRAINING_SECTIONS}
        text = json.dumps([*kinds, named], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.root / self.identity / "run")

    @property
    def diverged(self) -> Path:
        """A file that is there if training diverged where it may, with what was said."""
        return self.root / self.identity / "diverged.json"

    @property
    def is_done(self) -> bool:
        return self.identity in self.known or self.run.summary.is_file() or self.diverged.is_file()

    @property
    def share_done(self) -> float:
        """Of its outer steps, in [0, 1]."""
        if self.is_done:
            return 1.0
        entries = read_metrics(self.run.metrics) if self.run.metrics.is_file() else []
        return max((entry["step"] for entry in entries), default=0) / self.config.training(self.config.method).steps

    def outcome(self) -> dict[str, Any]:
        """What results keep of the unit, which must be done: its tables on test, and what it took.

        ``validation`` is label accuracy there, and ``validation_recall`` exact recall where the best is chosen by that
        too: means over hops, in [0, 1]. Of one that diverged there is ``diverged``, what it said, with nothing right on
        validation.
        """
        if self.identity in self.known:
            return dict(self.known[self.identity])
        if self.diverged.is_file():
            return read_json(self.diverged) | {"validation": 0.0, "run": self.identity}
        summary = read_json(self.run.summary)
        method = summary["method"]
        accuracy, told = summary["label_accuracy"][method], summary["methods"][method]
        recall = told.get("knowledge_recall", {"validation": {}, "test": {}})
        outcome = {
            "label_accuracy": accuracy["test"],
            "label_accuracy_by_answer": told["label_accuracy_by_answer"]["test"],
            "knowledge_recall": recall["test"],
            "validation": fmean(accuracy["validation"].values()),
            "steps": told["steps"],
            "best_step": told["best_step"],
            "tasks": told["steps"] * self.config.training(method).tasks_per_step,
            "training_seconds": told["training_seconds"],
            "peak_memory_mib": max(told["peak_memory_mib"]),
            "commit": summary["commit"],
            "run": self.identity,
        }
        if self.config.evaluation.choose_by_recall:
            outcome["validation_recall"] = fmean(row["exact"] for row in recall["validation"].values())
        return outcome


def _changed(given: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """The entries of ``given`` that ``default`` has not, or has otherwise."""
    found = {}
    for key, value in given.items():
        known = default.get(key)
        if value != known:
            both = isinstance(value, dict) and isinstance(known, dict)
            found[key] = _changed(value, known) if both else value
    return found


Resolve = Callable[[dict[str, Any]], RunConfig]
"""From the values of a run config to the config, with the problem's own data options."""
