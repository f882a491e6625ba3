"""The runs of an experiment: trials first, then every arm in every setting, with each seed and what trials chose."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from reckoning_betty.reproduction.experiment import Size, Values, without_budget
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
        known: outcomes that were found before.
    """

    size: Size
    resolve: Resolve
    root: Path
    known: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def trials(self) -> list[Unit]:
        """All, for every arm and every setting that is tuned."""
        size = self.size
        return [
            self._trial(setting, arm, values)
            for setting in dict.fromkeys(map(size.tuned_setting, size.settings))
            for arm in size.arms
            for values in size.trials_of(setting).get(arm, [])
        ]

    @property
    def is_chosen(self) -> bool:
        """Whether all trials are done."""
        return all(unit.is_done for unit in self.trials())

    def tried(self, setting: str, arm: str) -> list[dict[str, Any]]:
        """The arm's trials that are done, with what each found."""
        tuned = self.size.tuned_as.get(arm, arm)
        trials = self.size.trials_of(setting).get(tuned, [])
        units = [(values, self._trial(setting, tuned, values)) for values in trials]
        return [{"values": values} | unit.outcome() for values, unit in units if unit.is_done]

    def chosen(self, setting: str, arm: str) -> Values:
        """What the arm's trials chose on validation, the first of the best. They must be done.

        The best by label accuracy, or by its mean with exact recall where checkpoints are (``choose_by_recall``).
        """
        best = max(self.tried(setting, arm), key=_validated, default={"values": {}})["values"]
        return without_budget(best)

    def runs(self) -> Iterator[tuple[str, str, int, Unit]]:
        """Setting, arm, seed and unit. The trials must be done. All settings and arms of a seed before the next."""
        cells = [(setting, arm, self.chosen(setting, arm)) for setting in self.size.settings for arm in self.size.arms]
        for seed in self.size.seeds:
            for setting, arm, values in cells:
                yield setting, arm, seed, self._unit(setting, arm, values, {"seed": seed})

    def _trial(self, setting: str, arm: str, values: Values) -> Unit:
        return self._unit(self.size.tuned_setting(setting), arm, self.size.trial, values, {"seed": TRIAL_SEED})

    def _unit(self, setting: str, arm: str, *more: Values) -> Unit:
        return Unit(self.resolve(self.size.values(setting, arm, *more)), self.root, self.known)


def _validated(trial: Mapping[str, Any]) -> float:
    labels = trial["validation"]
    return fmean([labels, trial.get("validation_recall", labels)])
