"""What an experiment is: settings, the arms that are compared in each, and what its results are held against."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from omegaconf import OmegaConf

from reckoning_betty.config import RunConfig, TrainingConfig
from reckoning_betty.config_io import read_yaml
from reckoning_betty.errors import UserError
from reckoning_betty.reproduction.runtime import RuntimeSize

Values = dict[str, Any]
"""A part of a run config, nested as in its YAML file, with ``problem`` beside the sections."""

NONE = "none"
"""In ``Size.tuned_as``: the arm is as its values say."""

TRAINING_SECTIONS = tuple(item.name for item in fields(RunConfig) if item.type is TrainingConfig)

Measure = Literal["label_accuracy", "exact", "precision", "recall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence about the results and how it is checked. All numbers are points of 100, means over seeds.

    ``margin``: arm minus ``against`` in the mean over ``settings`` is at least ``points``.
    ``never_below``: arm minus ``against`` is at least ``points`` in each of the settings.
    ``at_least``: the arm reaches ``points`` in each of the settings.
    ``at_most``: the arm stays at or below ``points`` in each of the settings.
    ``drop``: the arm's first setting minus its last one is at most ``points``.
    """

    says: str
    kind: Literal["margin", "never_below", "at_least", "at_most", "drop"]
    arm: str
    points: float
    against: str = ""
    settings: list[str] = field(default_factory=list)
    """Empty for all."""
    hops: list[int] = field(default_factory=list)
    """Tests with these alone; empty for all."""
    measure: Measure = "label_accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How an experiment is run on some kind of machine.

    A run config's section of a method may have ``tasks`` in place of ``steps``: so many tasks are then seen, however
    many a step takes.

    Args:
        seeds: of every run; a table's mean and spread are over them.
        base: run config of all.
        settings: what each row of results has over ``base``, by its name.
        arms: what is compared, by its name; laid over the setting.
        trials: for each arm what is tried, as many times for every arm; laid over the arm. Empty for none.
        own_trials: for a setting such trials of its own instead.
        trial: laid under all trials, such as fewer steps; ``tasks`` of a trial go before it, and are not chosen.
        tuned_on: for a setting without trials of its own the setting whose choice it takes.
        hops: for a setting the tests that count where all are asked for; those of training where there are longer ones.
        tuned_as: arms without trials of their own, and the arm whose choice they take; ``none`` for none.
    """

    seeds: list[int]
    base: Values
    settings: dict[str, Values]
    arms: dict[str, Values]
    trials: dict[str, list[Values]] = field(default_factory=dict)
    own_trials: dict[str, dict[str, list[Values]]] = field(default_factory=dict)
    trial: Values = field(default_factory=dict)
    tuned_on: dict[str, str] = field(default_factory=dict)
    tuned_as: dict[str, str] = field(default_factory=dict)
    hops: dict[str, list[int]] = field(default_factory=dict)

    def values(self, setting: str, arm: str, *more: Values) -> Values:
        """The run config of an arm in a setting, with ``more`` laid over it."""
        layers = (self.base, self.settings[setting], self.arms[arm], *more)
        merged = OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.create, layers)))
        return merged | {key: _in_steps(merged[key]) for key in TRAINING_SECTIONS if key in merged}

    def trials_of(self, setting: str) -> dict[str, list[Values]]:
        """What is tried where the choice of a setting is made."""
        return self.own_trials.get(self.tuned_setting(setting), self.trials)

    def tuned_setting(self, setting: str) -> str:
        """Where the choice of a setting is made."""
        return self.tuned_on.get(setting, setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One of the paper's.

    Args:
        name: its file's.
        title: heading on the page.
        source: where in the paper, and what of it is known.
        figure: ``hops`` draws accuracy over hops, a panel for each setting; ``settings`` over settings;
            ``sets`` as bars, for settings without an order; ``runtime`` is timed instead of trained, and draws seconds
            over questions.
        measure: what tables and figures show.
        paper: the paper's values by arm and setting, in points of 100; for tests of some hops alone, by hops below it.
        claims: what is asked of the results.
        reading: sentences on the page below the tables: what holds, what does not, and why.
        sizes: ``small`` and ``paper``; for ``runtime`` of its own kind. A file may name another experiment instead of a
            size's values, to read something else off the same runs.
    """

    name: str
    title: str
    source: str
    figure: Literal["hops", "settings", "sets", "runtime"]
    sizes: dict[str, Size] | dict[str, RuntimeSize]
    measure: Measure = "label_accuracy"
    paper: dict[str, dict[str, float | dict[int, float]]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    reading: str = ""

    @property
    def is_timed(self) -> bool:
        """Whether there is nothing to train."""
        return self.figure == "runtime"

    def size(self, name: str) -> Any:
        """
        Raises:
            UserError: the experiment has no such size.
        """
        if name not in self.sizes:
            raise UserError(f"--size {name}: {self.name} has {', '.join(self.sizes)}.")
        return self.sizes[name]


def experiment_names(folder: Path) -> list[str]:
    """Every experiment that has a file.

    Raises:
        UserError: none has.
    """
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    if not names:
        raise UserError(f"{folder} holds no experiments, which are YAML files; name another folder or leave it out.")
    return names


def load_experiment(folder: Path, name: str) -> Experiment:
    """The experiment of ``folder / name.yaml``.

    Raises:
        UserError: there is none, or the file is not as it should be.
    """
    known = experiment_names(folder)
    if name not in known:
        raise UserError(f"There is no experiment '{name}': take one of {', '.join(known)}.")
    file = folder / f"{name}.yaml"
    given = OmegaConf.to_container(read_yaml(file))
    kind = RuntimeSize if given.get("figure") == "runtime" else Size
    sizes = {
        key: _made(kind, _size_of(folder, value, key) if isinstance(value, str) else value, f"{file}: {key}")
        for key, value in given.pop("sizes", {}).items()
    }
    claims = [_made(Claim, claim, f"{file}: a claim") for claim in given.pop("claims", [])]
    experiment = _made(Experiment, given | {"name": name, "sizes": sizes, "claims": claims}, str(file))
    for key, size in sizes.items() if kind is Size else ():
        _check(size, f"{file}: {key}")
        for claim in claims:
            _refuse_unknown(f"{file}: a claim", "settings", claim.settings, size.settings)
            _refuse_unknown(f"{file}: a claim", "arm or against", [claim.arm, claim.against or claim.arm], size.arms)
    return experiment


def _size_of(folder: Path, name: str, size: str) -> Values:
    """The values that another experiment's file has for the size.

    Raises:
        UserError: there is no such file, or it has no values there.
    """
    file = folder / f"{name}.yaml"
    values = OmegaConf.to_container(read_yaml(file)).get("sizes", {}).get(size)
    if not isinstance(values, dict):
        raise UserError(f"{file}: sizes has no values for {size}, which another experiment names: write them there.")
    return values


def _made(kind: type, given: Mapping[str, Any], where: str) -> Any:
    known = {item.name: item.type for item in fields(kind)}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise UserError(f"{where}: unknown key '{unknown[0]}'; known are {', '.join(sorted(known))}.")
    for key, value in given.items():
        if get_origin(known[key]) is Literal:
            _refuse_unknown(where, key, [value], get_args(known[key]))
    try:
        return kind(**given)
    except TypeError as error:
        raise UserError(f"{where}: {str(error).partition('() ')[2]}.") from None


def _refuse_unknown(where: str, key: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise UserError(f"{where}: {key} has {name!r}, but it must be of {', '.join(known)}.")


def _check(size: Size, where: str) -> None:
    for trials in (size.trials, *size.own_trials.values()):
        numbers = {arm: len(trials.get(arm, [])) for arm in size.arms if arm not in size.tuned_as}
        if trials and len(set(numbers.values())) > 1:
            told = ", ".join(f"{arm} {number}" for arm, number in numbers.items())
            raise UserError(f"{where}: every arm has as many trials as the others, but there are {told}.")
        named = [*trials, *size.tuned_as, *(arm for arm in size.tuned_as.values() if arm != NONE)]
        _refuse_unknown(where, "trials or tuned_as", named, size.arms)
    _refuse_unknown(where, "own_trials", size.own_trials, size.settings)
    _refuse_unknown(where, "tuned_on", [setting for pair in size.tuned_on.items() for setting in pair], size.settings)
    _refuse_unknown(where, "hops", size.hops, size.settings)


def without_budget(values: Values) -> Values:
    """What a trial tried, without the tasks that it took."""
    return {
        name: {key: value for key, value in section.items() if key != "tasks"} if name in TRAINING_SECTIONS else section
        for name, section in values.items()
    }


def _in_steps(section: Values) -> Values:
    if "tasks" not in section:
        return section
    steps = section["tasks"] // section.get("tasks_per_step", TrainingConfig().tasks_per_step)
    return {key: value for key, value in section.items() if key != "tasks"} | {"steps": max(1, steps)}
