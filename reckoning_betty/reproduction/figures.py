"""The paper's figures, redrawn from results."""

from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.reproduction.experiment import Experiment
from reckoning_betty.reproduction.results import Results, spread

COLOURS = ("#1b6ca8", "#d1603d", "#7a7a7a", "#b8a04a", "#8a63a8", "#3d8a5f", "#c05a8a", "#404040")


def draw(experiment: Experiment, results: Results, file: Path) -> None:
    """What ``Experiment.figure`` says: lines and bars are means, bands and whiskers spreads over seeds."""
    drawing = {"hops": _over_hops, "settings": _over_settings, "sets": _side_by_side}[experiment.figure]
    figure = drawing(experiment, results)
    replace_file(file, lambda new: figure.savefig(new, format="png"))


def _over_hops(experiment: Experiment, results: Results) -> Figure:
    number = len(results.settings)
    figure = Figure(figsize=(1.2 + 3.4 * number, 3.6), layout="constrained", dpi=120)
    panels = figure.subplots(1, number, squeeze=False, sharey=True)[0]
    for axes, setting in zip(panels, results.settings, strict=True):
        hops = results.hops(setting)
        for arm, colour in zip(results.arms, COLOURS, strict=False):
            found = [results.values(setting, arm, experiment.measure, [number]) for number in hops]
            _line(axes, hops, found, arm, colour)
        axes.set(xlabel="hops", title=setting, ylim=(0, 102))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel(_said(experiment))
    panels[-1].legend(frameon=False, fontsize=8)
    return figure


def _over_settings(experiment: Experiment, results: Results) -> Figure:
    figure, axes = _with_settings(experiment, results)
    places = list(range(len(results.settings)))
    for arm, colour in zip(results.arms, COLOURS, strict=False):
        found = [results.values(setting, arm, experiment.measure) for setting in results.settings]
        _line(axes, places, found, arm, colour)
        _papers(axes, places, experiment, results, arm, colour)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _side_by_side(experiment: Experiment, results: Results) -> Figure:
    width = 0.8 / len(results.arms)
    figure, axes = _with_settings(experiment, results, bars=len(results.arms))
    for number, (arm, colour) in enumerate(zip(results.arms, COLOURS, strict=False)):
        places = [index + (number - (len(results.arms) - 1) / 2) * width for index in range(len(results.settings))]
        done, means, spreads = _summaries(
            places, [results.values(s, arm, experiment.measure) for s in results.settings]
        )
        axes.bar(done, means, 0.9 * width, yerr=spreads, color=colour, label=arm, error_kw={"elinewidth": 1})
        _papers(axes, places, experiment, results, arm, colour)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def _with_settings(experiment: Experiment, results: Results, bars: int = 0) -> tuple[Figure, Axes]:
    """An empty panel with the settings below it, wide enough for ``bars`` in each."""
    width = max(4.8, 1.8 + max(0.9, 0.2 * bars) * len(results.settings))
    figure = Figure(figsize=(width, 3.8), layout="constrained", dpi=120)
    axes = figure.subplots()
    axes.set_xticks(range(len(results.settings)), results.settings, rotation=20, ha="right")
    axes.set(ylabel=_said(experiment), ylim=(0, 102))
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _papers(axes: Axes, places: list[float], experiment: Experiment, results: Results, arm: str, colour: str) -> None:
    known = experiment.paper.get(arm, {})
    given = [(place, known[s]) for place, s in zip(places, results.settings, strict=True) if s in known]
    if given:
        axes.scatter(*zip(*given, strict=True), marker="x", color=colour, label=f"{arm}, paper")


def _line(axes: Axes, places: list[int], found: list[list[float]], arm: str, colour: str) -> None:
    done, means, spreads = _summaries(places, found)
    axes.plot(done, means, marker="o", ms=4, color=colour, label=arm)
    below = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
    above = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
    axes.fill_between(done, below, above, color=colour, alpha=0.15, linewidth=0)
    axes.spines[["top", "right"]].set_visible(False)


def _summaries(places: list[float], found: list[list[float]]) -> tuple[list[float], list[float], list[float]]:
    """The places where there is something, its means and its spreads over seeds."""
    done = [(place, fmean(values), spread(values)) for place, values in zip(places, found, strict=True) if values]
    return tuple(map(list, zip(*done, strict=True))) if done else ([], [], [])


def _said(experiment: Experiment) -> str:
    words = {"label_accuracy": "label accuracy (%)", "exact": "facts recalled exactly (%)"}
    return words.get(experiment.measure, f"{experiment.measure} (%)")
