"""The paper's figures, redrawn from results."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.reproduction.experiment import Experiment
from reckoning_betty.reproduction.results import Results, spread

COLOURS = ("#1b6ca8", "#d1603d", "#7a7a7a", "#b8a04a", "#8a63a8", "#3d8a5f", "#c05a8a", "#404040")


def draw(experiment: Experiment, results: Results, file: Path) -> None:
    """Accuracy over hops with a panel for each setting, or over settings; lines are means, bands spreads over seeds."""
    figure = (_over_hops if experiment.figure == "hops" else _over_settings)(experiment, results)
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
    figure = Figure(figsize=(max(4.8, 1.8 + 0.9 * len(results.settings)), 3.8), layout="constrained", dpi=120)
    axes = figure.subplots()
    places = list(range(len(results.settings)))
    for arm, colour in zip(results.arms, COLOURS, strict=False):
        found = [results.values(setting, arm, experiment.measure) for setting in results.settings]
        _line(axes, places, found, arm, colour)
        known = experiment.paper.get(arm, {})
        given = [(place, known[s]) for place, s in enumerate(results.settings) if s in known]
        if given:
            axes.scatter(*zip(*given, strict=True), marker="x", color=colour, label=f"{arm}, paper")
    axes.set_xticks(places, results.settings, rotation=20, ha="right")
    axes.set(ylabel=_said(experiment), ylim=(0, 102))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _line(axes, places: list[int], found: list[list[float]], arm: str, colour: str) -> None:
    done = [index for index, values in enumerate(found) if values]
    places, found = [places[index] for index in done], [found[index] for index in done]
    means = [sum(values) / len(values) for values in found]
    axes.plot(places, means, marker="o", ms=4, color=colour, label=arm)
    below = [mean - spread(values) for mean, values in zip(means, found, strict=True)]
    above = [mean + spread(values) for mean, values in zip(means, found, strict=True)]
    axes.fill_between(places, below, above, color=colour, alpha=0.15, linewidth=0)
    axes.spines[["top", "right"]].set_visible(False)


def _said(experiment: Experiment) -> str:
    words = {"label_accuracy": "label accuracy (%)", "exact": "facts recalled exactly (%)"}
    return words.get(experiment.measure, f"{experiment.measure} (%)")
