"""The comparison's pictures, drawn with matplotlib."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.comparison.plan import EXACT
from reckoning_betty.hypergradients.registry import METHODS

COLOURS = dict(
    zip(METHODS, ("#1b6ca8", "#5aa9e6", "#2a9d8f", "#e9a23b", "#d1603d", "#9d4edd", "#7a7a7a", "#b5179e"), strict=False)
)
MARKERS = dict(zip(METHODS, "osD^vPXp*hH8", strict=False))
EXACT_ERROR = 1e-9
"""Errors below it are rounding: they stand on a line of their own, not decades below what there is to see."""


def draw(content: dict[str, Any], folder: Path) -> None:
    """``fidelity_against_cost.png``, ``accuracy_against_time.png`` and ``error_against_inner_steps.png``."""
    folder.mkdir(exist_ok=True)
    fidelity_against_cost(content, folder / "fidelity_against_cost.png")
    accuracy_against_time(content, folder / "accuracy_against_time.png")
    error_against_steps(content, folder / "error_against_inner_steps.png")


def fidelity_against_cost(content: dict[str, Any], file: Path) -> None:
    """Error of the weights' hypergradient at the last point against time and memory; the Pareto front joined."""
    rows = _rows(content, content["inner_steps_trained"])
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for one, (key, scale, label) in zip(
        axes,
        (("seconds_per_step", 1000.0, "ms per outer step"), ("memory_above_start_mib", 1.0, "MiB above start")),
        strict=True,
    ):
        errors = [row["relative_error_weights"] for row in rows]
        points = [
            (scale * row[key], error, row["method"])
            for row, error in zip(rows, _with_exact_line(one, errors, errors), strict=True)
        ]
        for x, y, method in points:
            one.scatter(x, y, color=_colour(method), marker=MARKERS.get(method, "o"), s=60, label=method, zorder=3)
        front = _pareto(points)
        one.plot(*zip(*front, strict=True), color="#bbbbbb", lw=1.2, zorder=1, label="Pareto front")
        one.set(xlabel=label, yscale="log")
        one.grid(alpha=0.25)
    axes[0].set_ylabel("relative error of the weights' hypergradient")
    figure.suptitle(f"Fidelity against cost, N={content['inner_steps_trained']}, end of training")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    _save(figure, file)


def accuracy_against_time(content: dict[str, Any], file: Path) -> None:
    """Validation accuracy against seconds and outer steps: the mean over seeds, and their range."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    for axes, key, label in zip(
        figure.subplots(1, 2, sharey=True), ("seconds", "step"), ("seconds of training", "outer steps"), strict=True
    ):
        for training in content["trainings"]:
            _curve(axes, training, key)
        axes.set(xlabel=label, ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(alpha=0.25)
    budget = content["trainings"][0]["after_seconds"]["seconds"]
    figure.axes[0].axvline(budget, color="#bbbbbb", ls=":")
    figure.axes[1].axvline(content["steps"], color="#bbbbbb", ls=":")
    figure.axes[0].set_ylabel("label accuracy, validation")
    figure.suptitle("Accuracy against time and against outer steps (dotted: the two budgets)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    _save(figure, file)


def _curve(axes: Axes, training: dict[str, Any], key: str) -> None:
    runs = [run["points"] for run in training["runs"] if run["points"]]
    if not runs:
        return
    length = min(map(len, runs))
    x = np.mean([[point[key] for point in run[:length]] for run in runs], axis=0)
    y = np.array([[point["label_accuracy"] for point in run[:length]] for run in runs])
    colour = _colour(training["method"])
    axes.plot(x, y.mean(0), color=colour, label=training["method"], lw=1.8)
    axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.12, lw=0)


def error_against_steps(content: dict[str, Any], file: Path) -> None:
    """Error of the hypergradient, weights and rates, against N; a column for each point of training."""
    points = sorted({row["outer_step"] for row in content["rows"]})
    figure = Figure(figsize=(4.0 * len(points) + 2, 7), layout="constrained")
    grid = figure.subplots(2, len(points), sharex=True, sharey="row", squeeze=False)
    methods = [name for name in dict.fromkeys(row["method"] for row in content["rows"]) if name != EXACT]
    for column, point in enumerate(points):
        for line, part in enumerate(("weights", "rates")):
            axes = grid[line][column]
            rows = [r for r in content["rows"] if r["outer_step"] == point and r["method"] != EXACT]
            rows = [r for r in rows if r[f"relative_error_{part}"] is not None]
            among = [r[f"relative_error_{part}"] for r in content["rows"]]
            errors = _with_exact_line(axes, [r[f"relative_error_{part}"] for r in rows], among)
            for method in methods:
                mine = [(r["inner_steps"], e) for r, e in zip(rows, errors, strict=True) if r["method"] == method]
                if mine:
                    look = {"color": _colour(method), "marker": MARKERS.get(method, "o"), "label": method, "lw": 1.4}
                    axes.plot(*zip(*mine, strict=True), **look)
            axes.set_xticks(sorted({r["inner_steps"] for r in rows}))
            axes.set(yscale="log")
            axes.grid(alpha=0.25)
            if line == 0:
                axes.set_title(f"after {point} outer steps")
            else:
                axes.set_xlabel("inner steps N")
        grid[0][0].set_ylabel("relative error, weights")
        grid[1][0].set_ylabel("relative error, rates")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.suptitle(f"Error of the hypergradient against {EXACT}")
    _save(figure, file)


def _rows(content: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    last = max(row["outer_step"] for row in content["rows"])
    return [row for row in content["rows"] if (row["inner_steps"], row["outer_step"]) == (steps, last)]


def _with_exact_line(axes: Axes, errors: list[float], among: list[float | None]) -> list[float]:
    """The errors, those of exact methods moved to a line that is drawn below all others ``among`` which they are."""
    line = min((error for error in among if error is not None and error > EXACT_ERROR), default=1.0) / 4
    axes.axhline(line, color="#bbbbbb", lw=0.8, ls=":", zorder=0)
    axes.text(0.99, line, "exact", transform=axes.get_yaxis_transform(), ha="right", va="bottom", color="#777777")
    return [error if error > EXACT_ERROR else line for error in errors]


def _pareto(points: list[tuple[float, float, str]]) -> list[tuple[float, float]]:
    """Those for which no other is both cheaper and nearer, from the cheapest on."""
    front: list[tuple[float, float]] = []
    for x, y, _ in sorted(points):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return front


def _colour(method: str) -> str:
    return COLOURS.get(method, "#000000")


def _save(figure: Figure, file: Path) -> None:
    replace_file(file, lambda new: figure.savefig(new, dpi=150, format="png"))
