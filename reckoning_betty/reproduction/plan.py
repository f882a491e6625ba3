"""The runs of an experiment: trials first, then every arm in every setting, with each seed and what trials chose."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from reckoning_betty.reproduction.experiment import Size, Values
from reckoning_betty.reproduction.units import Resolve, Unit

TRIAL_SEED = 1000
"""Of all trials, so that no reported run has chosen for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Units of a size.

    Args:
        size: what is run.
        resolve: values to configs.
        root: the folder of all units.
    """

    size: Size
    resolve: Resolve
    root: Path

    def trials(self) -> list[Unit]:
        """All, for every arm and every setting that is tuned."""
        size = self.size
        return [
            self._trial(setting, arm, values)
            for setting in dict.fromkeys(map(size.tuned_setting, size.settings))
            for arm in size.arms
            for values in size.trials.get(arm, [])
        ]

    def chosen(self, setting: str, arm: str) -> tuple[Values, list[dict[str, Any]]]:
        """What the arm's trials chose on validation, the first of the best, and each with its label accuracy."""
        tuned = self.size.tuned_as.get(arm, arm)
        tried = [
            {"values": values, "validation": validation_accuracy(self._trial(setting, tuned, values))}
            for values in self.size.trials.get(tuned, [])
        ]
        return max(tried, key=lambda trial: trial["validation"], default={"values": {}})["values"], tried

    def runs(self) -> Iterator[tuple[str, str, int, Unit]]:
        """Setting, arm, seed and unit. The trials must be done. All settings and arms of a seed before the next."""
        for seed in self.size.seeds:
            for setting in self.size.settings:
                for arm in self.size.arms:
                    values, _ = self.chosen(setting, arm)
                    yield setting, arm, seed, self._unit(setting, arm, values, {"seed": seed})

    def _trial(self, setting: str, arm: str, values: Values) -> Unit:
        return self._unit(self.size.tuned_setting(setting), arm, values, self.size.trial, {"seed": TRIAL_SEED})

    def _unit(self, setting: str, arm: str, *more: Values) -> Unit:
        return Unit(self.resolve(self.size.values(setting, arm, *more)), self.root)


def validation_accuracy(unit: Unit) -> float:
    """Label accuracy of the unit's method on validation, the mean over hops, in [0, 1]."""
    summary = unit.summary()
    return fmean(summary["label_accuracy"][summary["method"]]["validation"].values())
