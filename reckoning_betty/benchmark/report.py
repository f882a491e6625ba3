"""A benchmark's rows for people: a table in Markdown and a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from reckoning_betty.benchmark.measure import Row
from reckoning_betty.benchmark.sweeps import DEFAULT, GROWTH_AXES
from reckoning_betty.checkpoint import replace_file

COLOURS = {
    "auto": "#1b6ca8",
    "dual": "#2a9d8f",
    "batched": "#8f5fbf",
    "looped": "#7a7a7a",
    "higher": "#d1603d",
    "torchopt": "#e9a820",
    "boat": "#a03050",
}
MARKERS = {"auto": "o", "dual": "s", "batched": "^", "looped": "v", "higher": "X", "torchopt": "P", "boat": "D"}
COLUMNS = (
    *("engine", "form", "width", "layers", "tasks", "facts", "tokens", "N"),
    *("tasks/s", "s/outer step (min-max)", "peak MiB"),
    *("MiB above model", "GFLOP/s", "of matmul", "relative error"),
)
SHAPE = ("width", "layers", "tasks", "facts", "tokens", "inner_steps")


def write_report(rows: Sequence[Row], machine: dict[str, Any], file: Path) -> None:
    """``file`` with .md and .png for its ending, and with _growth.png where that was measured."""
    replace_file(file.with_suffix(".md"), lambda new: new.write_text(table(rows, machine), encoding="utf-8"))
    picture(rows, file.with_suffix(".png"))
    growth = [row for row in rows if row["sweep"] == "growth" and row["status"] == "measured"]
    if growth:
        growth_picture(growth, file.with_name(f"{file.stem}_growth.png"))


def name_of(row: Row) -> str:
    """An engine as people read it."""
    return row["engine"] + ("+checkpoint" if row["checkpoint"] else "")


def table(rows: Sequence[Row], machine: dict[str, Any]) -> str:
    """Markdown: a table for each sweep, and below it what else there is to say about its engines."""
    parts = [
        f"# Benchmark\n\n{machine.get('cpu')}, {machine.get('cpus')} CPUs, {machine.get('threads')} threads; a matrix "
        f"product reaches {_number(machine.get('matmul_gflops'))} GFLOP/s. Commit {machine.get('commit')}.\n"
    ]
    for sweep in dict.fromkeys(row["sweep"] for row in rows):
        mine = [row for row in rows if row["sweep"] == sweep]
        lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * 2 + "---:|" * (len(COLUMNS) - 2)]
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in mine]
        notes = dict.fromkeys(f"- {name_of(row)}: {row['reason']}" for row in mine if row["reason"])
        parts.append("\n".join([f"## {sweep}\n", *lines, "", *notes, ""]))
    parts.append(
        "Each engine was checked against the looped form before it was timed. Engines run in turn, each in a process "
        "of its own; times are medians. Peers work task by task, the forms on all tasks at once. GFLOP/s count matrix "
        "products only, and what a checkpoint computes again as well.\n"
    )
    return "\n".join(parts)


def line_of(row: Row) -> str:
    """One row for the terminal."""
    where = f"{row['sweep']:8s} width {row['width']:4d} tasks {row['tasks']:2d} N {row['inner_steps']:2d}"
    if row["status"] != "measured":
        return f"{where}  {name_of(row):18s} {row['status']}: {row['reason']}"
    return (
        f"{where}  {name_of(row):18s} {row['tasks_per_second']:8.2f} tasks/s  {row['memory_above_model_mib']:8.0f} MiB "
        f"above model  {row['flop_rate']:6.1f} GFLOP/s = {row['flop_share']:.0%} of matmul  "
        f"error {row['relative_error']:.0e}"
    )


def picture(rows: Sequence[Row], file: Path) -> None:
    """Time of a task and memory above the model, against width and against inner steps."""
    figure = Figure(figsize=(11, 8), layout="constrained", dpi=120)
    grid = figure.subplots(2, 2)
    panels = ((("width", "gpt2"), "width", "width"), (("steps",), "inner_steps", "inner steps"))
    for column, (sweeps, key, label) in enumerate(panels):
        mine = [row for row in rows if row["sweep"] in sweeps and row["status"] == "measured"]
        _lines(grid[0, column], mine, key, lambda row: row["seconds"] / row["tasks"])
        _lines(grid[1, column], mine, key, lambda row: row["memory_above_model_mib"])
        grid[0, column].set(ylabel="seconds per task", title=f"Time against {label}")
        grid[1, column].set(ylabel="MiB above the model", title=f"Memory against {label}")
        for axes in grid[:, column]:
            axes.set_xlabel(f"{label} (log)" if key == "inner_steps" else "width (log), layers and tasks below")
            _dress(axes, mine, key)
    handles = {name: line for axes in grid.flat for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False)
    replace_file(file, lambda new: figure.savefig(new, format="png"))


def growth_picture(rows: Sequence[Row], file: Path) -> None:
    """Time of a task and memory above the model, of the default size grown along each axis apart."""
    figure = Figure(figsize=(14, 6), layout="constrained", dpi=120)
    grid = figure.subplots(2, len(GROWTH_AXES), sharey="row")
    for column, axis in enumerate(GROWTH_AXES):
        others = [key for key in GROWTH_AXES if key != axis]
        mine = [row for row in rows if all(row[key] == getattr(DEFAULT, key) for key in others)]
        _lines(grid[0, column], mine, axis, lambda row: 1000 * row["seconds"] / row["tasks"])
        _lines(grid[1, column], mine, axis, lambda row: row["memory_above_model_mib"])
        for axes in grid[:, column]:
            _dress(axes, mine, axis, plain=True)
        grid[1, column].set_xlabel(f"{axis.replace('_', ' ')} (log)")
    grid[0, 0].set_ylabel("ms per task")
    grid[1, 0].set_ylabel("MiB above the model")
    size = f"width {DEFAULT.width}, {DEFAULT.facts} facts of {DEFAULT.tokens} tokens, {DEFAULT.tasks} tasks"
    figure.suptitle(
        f"An outer step of the default size ({size}, N={DEFAULT.inner_steps}), grown along one axis at a time"
    )
    replace_file(file, lambda new: figure.savefig(new, format="png"))


def _lines(axes: Axes, rows: Sequence[Row], key: str, value: Callable[[Row], float]) -> None:
    for name in dict.fromkeys(map(name_of, rows)):
        points = sorted((row[key], max(value(row), 1e-9)) for row in rows if name_of(row) == name)
        engine, _, checkpoint = name.partition("+")
        style = {"linestyle": "--", "markerfacecolor": "white"} if checkpoint else {}
        axes.plot(*zip(*points, strict=True), color=COLOURS[engine], marker=MARKERS[engine], ms=6, label=name, **style)


def _dress(axes: Axes, rows: Sequence[Row], key: str, plain: bool = False) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    if not rows:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#7a7a7a")
        return
    axes.set(xscale="log", yscale="log")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    labels = {row[key]: f"{row[key]}" for row in rows}
    if key == "width" and not plain:
        labels = {row[key]: f"{row['width']}\n{row['layers']} layers\n{row['tasks']} tasks" for row in rows}
    axes.xaxis.set_major_locator(FixedLocator(sorted(labels)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([labels[place] for place in sorted(labels)])
    axes.margins(x=0.08)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _cells(row: Row) -> list[str]:
    cells = [name_of(row), row["form"] or "", *(str(row[key]) for key in SHAPE)]
    if row["status"] == "measured":
        return [
            *cells,
            _number(row["tasks_per_second"]),
            f"{_number(row['seconds'])} ({_number(row['seconds_min'])}-{_number(row['seconds_max'])})",
            f"{row['peak_memory_mib']:.0f}",
            f"{row['memory_above_model_mib']:.0f}",
            _number(row["flop_rate"]),
            f"{row['flop_share']:.1%}",
            f"{row['relative_error']:.0e} ({row['checked']})",
        ]
    predicted = f"({row['extrapolated_peak_memory_mib']:.0f}, extrapolated)" if row["extrapolated"] else ""
    return [*cells, row["status"], "", predicted, "", "", "", ""]


def _number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return "?"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 1e-4 else f"{value:.1e}"
