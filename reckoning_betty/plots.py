"""Pictures of a run, drawn with matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.inner.rates import InnerRates

COLOURS = {
    "reckoning": "#1b6ca8",
    "in_context": "#d1603d",
    "no_facts": "#7a7a7a",
    "no_question": "#b8a04a",
    "random_facts": "#8a63a8",
}


def learning_curve(metrics: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Training loss of the answer and validation label accuracy over training seconds, one colour per method."""
    figure, (loss_axes, accuracy_axes) = _figure(columns=2)
    for method in dict.fromkeys(entry["method"] for entry in metrics):
        mine = [entry for entry in metrics if entry["method"] == method]
        losses = [(entry["seconds"], entry["answer_loss"]) for entry in mine if "answer_loss" in entry]
        accuracy = [(e["seconds"], e["validation_label_accuracy"]) for e in mine if "validation_label_accuracy" in e]
        for axes, points, marker in ((loss_axes, losses, ""), (accuracy_axes, accuracy, "o")):
            if points:
                axes.plot(*zip(*points, strict=True), color=COLOURS[method], label=_words(method), marker=marker, ms=4)
    loss_axes.set(xlabel="seconds of training", ylabel="answer loss (nats)", title="Training", yscale="log")
    accuracy_axes.set(xlabel="seconds of training", ylabel="label accuracy", title="Validation", ylim=(0, 1.02))
    accuracy_axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (loss_axes, accuracy_axes):
        if axes.lines:
            axes.legend(frameon=False)
    _save(figure, file)


def accuracy_by_hops(tables: Mapping[str, Mapping[str, Mapping[str, float]]], file: Path) -> None:
    """Label accuracy against hops, one line per method."""
    figure, axes = _figure()
    for method, table in tables.items():
        hops = [int(key) for key in table]
        values = [row["label_accuracy"] for row in table.values()]
        axes.plot(hops, values, color=COLOURS[method], label=_words(method), marker="o", ms=5)
    axes.set(xlabel="hops", ylabel="label accuracy", title="Held-out stories", ylim=(0, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False)
    _save(figure, file)


def inner_losses(losses: Sequence[float], unit: str, file: Path) -> None:
    """Mean loss of the facts, in ``unit``, before the first inner step and after each."""
    figure, axes = _figure()
    axes.plot(range(len(losses)), losses, color=COLOURS["reckoning"], marker="o")
    for step, loss in enumerate(losses):
        axes.annotate(f"{loss:.2f}", (step, loss), textcoords="offset points", xytext=(6, 6))
    axes.set(
        xlabel="inner steps done",
        ylabel=f"loss of the facts ({unit})",
        title="Knowledge encoding",
        ylim=(0, None),
    )
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _save(figure, file)


def inner_rates(rates: InnerRates, file: Path) -> None:
    """Heat map of the inner rates: a row per layer, a column per inner step, the value written in each cell."""
    table = rates.table()
    rows, steps = table.shape
    figure, axes = _figure(height=max(2.5, 1.2 + 0.4 * rows), width=max(4.5, 2.5 + 0.9 * steps))
    image = axes.imshow(table.log10().numpy(), aspect="auto", cmap="viridis")
    middle = (table.log10().min() + table.log10().max()) / 2
    for row in range(rows):
        for step in range(steps):
            dark = table[row, step].log10() <= middle
            axes.text(
                step, row, f"{table[row, step]:.2g}", ha="center", va="center", color="white" if dark else "black"
            )
    axes.set_xticks(range(steps), [str(step) for step in range(steps)])
    axes.set_yticks(range(rows), rates.row_names)
    axes.set(xlabel="inner step", title="Inner rates")
    figure.colorbar(image, label="log10 of the rate")
    _save(figure, file)


def _figure(columns: int = 1, width: float | None = None, height: float = 3.8) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width or 5.5 * columns, height), layout="constrained", dpi=120)  # needs no display
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes if columns > 1 else axes[0]


def _words(method: str) -> str:
    return {"reckoning": "RECKONING", "in_context": "in-context"}.get(method, method.replace("_", " "))


def _save(figure: Figure, file: Path) -> None:
    replace_file(file, lambda new: figure.savefig(new, format="png"))
