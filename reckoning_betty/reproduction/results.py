"""What an experiment's runs found, as one JSON file, and the numbers that tables, figures and claims read off it."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from reckoning_betty.reproduction.experiment import Experiment, Measure
from reckoning_betty.reproduction.plan import Plan
from reckoning_betty.training.run_directory import commit, read_json, versions, write_json


def collect(experiment: Experiment, size: str, plan: Plan) -> dict[str, Any]:
    """What is told of the trials and runs that are done; of runs, once all trials are."""
    is_chosen = plan.is_chosen
    return {
        "experiment": experiment.name,
        "size": size,
        "seeds": plan.size.seeds,
        "config": asdict(plan.size),
        "chosen": [
            {
                "setting": setting,
                "arm": arm,
                "values": plan.chosen(setting, arm) if is_chosen else None,
                "trials": plan.tried(setting, arm),
            }
            for setting in plan.size.settings
            for arm in plan.size.arms
            if arm not in plan.size.tuned_as and setting not in plan.size.tuned_on
        ],
        "rows": [
            {"setting": setting, "arm": arm, "seed": seed} | unit.outcome()
            for setting, arm, seed, unit in (plan.runs() if is_chosen else ())
            if unit.is_done
        ],
        "versions": versions(),
        "commit": commit(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }


def save_what_is_new(content: dict[str, Any], file: Path) -> None:
    """Write results so far, unless ``file`` has as many of the same config, from a command that had come further.

    What the file tells and ``content`` has no place for, as for runs while a new trial is missing, stays in it as
    ``spare`` until all runs are done.
    """
    told = read_json(file) if file.is_file() else None
    config = json.loads(json.dumps(content["config"]))  # as a file has it: lists for tuples
    if told is None or told["config"] != config or len(_placed(content)) > len(_placed(told)):
        placed = {outcome.get("run") for outcome in _placed(content)}
        spare = [outcome for run, outcome in _outcomes(told or {}).items() if run not in placed]
        if spare and Results(content).missing:
            content = content | {"spare": spare}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, content)


def save_finished(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Write results with all runs, unless ``file`` tells the same: its versions are those that found it.

    Returns:
        What ``file`` tells now.
    """
    told = read_json(file) if file.is_file() else {}
    found = json.loads(json.dumps(content))
    if any(told.get(key) != found[key] for key in ("config", "chosen", "rows")):
        write_json(file, content)
        return content
    return told


def known_outcomes(folder: Path) -> dict[str, dict[str, Any]]:
    """Of every trial and run that results files of ``folder`` tell, by identity (``Unit.outcome``)."""
    known = {}
    for file in sorted(folder.glob("*.json")):
        known |= _outcomes(read_json(file))
    return known


def _placed(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [*Results(content).trials, *content.get("rows", ())]


def _outcomes(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        told["run"]: {key: value for key, value in told.items() if key not in _OF_THE_PLAN}
        for told in [*content.get("spare", ()), *_placed(content)]
        if "run" in told
    }


_OF_THE_PLAN = ("setting", "arm", "seed", "values")


@dataclass(frozen=True, slots=True)
class Results:
    """A results file with its questions answered. Values are points of 100."""

    content: dict[str, Any]

    @property
    def settings(self) -> list[str]:
        return list(self.content["config"]["settings"])

    @property
    def arms(self) -> list[str]:
        return list(self.content["config"]["arms"])

    @property
    def trials(self) -> list[dict[str, Any]]:
        """All that are done."""
        return [trial for chosen in self.content.get("chosen", ()) for trial in chosen["trials"]]

    @property
    def missing(self) -> int:
        """Runs that are still to be done."""
        return len(self.settings) * len(self.arms) * len(self.content["seeds"]) - len(self.content["rows"])

    def rows(self, setting: str, arm: str) -> list[dict[str, Any]]:
        """One for each seed that is done."""
        return [row for row in self.content["rows"] if (row["setting"], row["arm"]) == (setting, arm)]

    def hops(self, setting: str) -> list[int]:
        """Those that the setting's tests have, in rising order."""
        rows = [row for row in self.content["rows"] if row["setting"] == setting]
        return sorted({int(hops) for row in rows for hops in row["label_accuracy"]})

    def answers(self, setting: str) -> list[str]:
        """The different right answers of the setting's tests."""
        rows = [row for row in self.content["rows"] if row["setting"] == setting]
        return sorted({answer for row in rows for answer in row["label_accuracy_by_answer"]})

    def of_answer(self, setting: str, arm: str, answer: str) -> list[float]:
        """Label accuracy of each seed over the tests whose right answer this is."""
        return [100 * row["label_accuracy_by_answer"][answer]["label_accuracy"] for row in self.rows(setting, arm)]

    def values(self, setting: str, arm: str, measure: Measure, hops: Sequence[int] = ()) -> list[float]:
        """The measure on test of each seed: over all questions, or the mean over some numbers of ``hops``.

        Without ``hops``, those that the setting counts (``Size.hops``).
        """
        counted = hops or self.content["config"]["hops"].get(setting, [])
        return [100 * _value(row, measure, counted) for row in self.rows(setting, arm)]

    def mean(self, setting: str, arm: str, measure: Measure, hops: Sequence[int] = ()) -> float:
        """Over the seeds, of which one or more are done."""
        return fmean(self.values(setting, arm, measure, hops))


def spread(values: Sequence[float]) -> float:
    """The standard deviation over seeds; 0 for a single one."""
    return stdev(values) if len(values) > 1 else 0.0


def _value(row: dict[str, Any], measure: Measure, hops: Sequence[int]) -> float:
    if measure == "label_accuracy":
        if hops:
            return fmean(row["label_accuracy"][str(number)] for number in hops)
        table = row["label_accuracy_by_answer"]
        return _weighted(table.values(), "label_accuracy")
    table = row["knowledge_recall"]
    return _weighted([table[str(number)] for number in hops] if hops else table.values(), measure)


def _weighted(rows: Any, measure: str) -> float:
    rows = list(rows)
    return sum(row["n"] * row[measure] for row in rows) / sum(row["n"] for row in rows)
