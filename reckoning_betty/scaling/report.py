"""The rows of a scaling measurement for people: a table in Markdown and a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.scaling.cells import ONE_PROCESS, STRATEGIES
from reckoning_betty.scaling.results import Row

COLOURS = ("#1b6ca8", "#d1603d", "#2a9d8f", "#e9a820", "#8f5fbf", "#a03050", "#7a7a7a")
STYLES = {name: {"color": COLOURS[i], "marker": "os^vPXd"[i]} for i, name in enumerate(STRATEGIES)}
SPREAD = ("seconds_max", "seconds", "seconds_min")
COLUMNS = ("strategy", "processes", "tasks/s", "speed-up", "s/outer step (min-max)", "peak MiB", "MiB above start")


def write_report(content: dict[str, Any], file: Path) -> None:
    """``file`` with .md and .png for its ending."""
    replace_file(file.with_suffix(".md"), lambda new: new.write_text(table(content), encoding="utf-8"))
    picture(content["rows"], file.with_suffix(".png"))


def table(content: dict[str, Any]) -> str:
    """Markdown: how it was measured, a line per cell, and why what is missing is."""
    machine, settings, rows = content["machine"], content["settings"], content["rows"]
    runs = [run for row in rows for run in row["runs"]]
    devices = sorted({run["device"] for run in runs}) or ["nothing measured"]
    where = f"{machine['cpu']}, {machine['cpus']} CPUs" if devices == ["cpu"] else ", ".join(devices)
    model = settings["config"]["model"]
    size = model["name"] or f"width {model['width']}, {model['layers']} layers"
    others = [run["share_of_others"] for run in runs] or [0.0]
    head = (
        f"# Scaling\n\n{where}. {settings['config']['problem']}, {size}, N={settings['config']['inner']['steps']}; the "
        f"{settings['tasks_per_step']} tasks of an outer step are shared out over the processes (strong scaling), and "
        f"on a CPU its cores are, too. Medians of {max((len(row['runs']) for row in rows), default=0)} runs in turn, "
        f"each of {settings['steps']} outer steps. Meanwhile other programs took {min(others):.0%} to "
        f"{max(others):.0%} of the machine. Commit {settings['commit']}.\n"
    )
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    notes = [f"- {row['strategy']}, {row['processes']} processes: {row['reason']}" for row in rows if row["reason"]]
    memory = "\nMemory is the largest process's; the start is with everything imported and before the model is there.\n"
    return "\n".join([head, *lines, "", *notes]) + memory


def line_of(row: Row) -> str:
    """One row for the terminal."""
    where = f"{row['strategy']:12s} {row['processes']:2d} processes"
    if row["status"] != "measured":
        return f"{where}  {row['status']}: {row['reason']}"
    speed_up = "" if row["speed_up"] is None else f"  x {row['speed_up']:.2f}"
    speed = f"{row['tasks_per_second']:8.2f} tasks/s{speed_up}"
    return f"{where}  {speed}  {row['memory_above_start_mib']:8.0f} MiB above start"


def picture(rows: Sequence[Row], file: Path) -> None:
    """Tasks per second, with the spread of the runs, and memory of a process against the number of processes."""
    figure = Figure(figsize=(10, 4.2), layout="constrained", dpi=120)
    speed, memory = figure.subplots(1, 2)
    measured = [row for row in rows if row["status"] == "measured"]
    alone = next((row for row in measured if row["strategy"] == ONE_PROCESS), None)
    numbers = sorted({row["processes"] for row in measured})
    on_cpu = all(run["device"] == "cpu" for row in measured for run in row["runs"])
    if alone and not on_cpu:  # on a CPU one process has all cores already
        perfect = [alone["tasks_per_second"] * number for number in numbers]
        speed.plot(numbers, perfect, color="#b0b0b0", linestyle="--", label="one process, times processes")
    _lines(speed, measured, alone, lambda row: [row["tasks_per_second"] * row["seconds"] / row[key] for key in SPREAD])
    _lines(memory, measured, alone, lambda row: [row["memory_above_start_mib"]] * len(SPREAD))
    title = f"Speed of the same outer step{', always on all cores' if on_cpu else ''}"
    speed.set(ylabel="tasks per second", title=title)
    memory.set(ylabel="MiB above start", title="Memory of the largest process")
    for axes in (speed, memory):
        axes.margins(x=0.12, y=0.1)
        axes.set(xlabel="processes")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(FixedLocator(numbers))
        axes.xaxis.set_minor_locator(NullLocator())
    handles, labels = speed.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    replace_file(file, lambda new: figure.savefig(new, format="png"))


def _lines(axes: Axes, rows: Sequence[Row], alone: Row | None, values: Callable[[Row], list[float]]) -> None:
    """A line for each strategy, from one process on, side by side so that equal ones are all seen.

    Args:
        values: the least, the middle and the largest of a row.
    """
    names = list(dict.fromkeys(row["strategy"] for row in rows if row is not alone))
    for place, name in enumerate(names):
        mine = [row for row in rows if row["strategy"] == name]
        at = [row["processes"] * (1 + 0.015 * (place - (len(names) - 1) / 2)) for row in mine]
        low, middle, high = zip(*map(values, mine), strict=True)
        errors = [[m - v for m, v in zip(middle, low, strict=True)], [v - m for m, v in zip(middle, high, strict=True)]]
        axes.errorbar(at, middle, errors, **STYLES[name], ls="", ms=6, capsize=3, label=name)
        start = [(1, values(alone)[1])] if alone else []
        axes.plot(*zip(*start, *zip(at, middle, strict=True), strict=True), color=STYLES[name]["color"], lw=1.2)
    if alone:
        low, middle, high = values(alone)
        errors = [[middle - low], [high - middle]]
        axes.errorbar(1, middle, errors, color="#404040", marker="D", ls="", ms=7, capsize=3, label=ONE_PROCESS)


def _cells(row: Row) -> list[str]:
    cells = [row["strategy"], str(row["processes"])]
    if row["status"] != "measured":
        return [*cells, row["status"], "", "", "", ""]
    return [
        *cells,
        f"{row['tasks_per_second']:.3g}",
        "" if row["speed_up"] is None else f"{row['speed_up']:.2f}",
        f"{row['seconds']:.3g} ({row['seconds_min']:.3g}-{row['seconds_max']:.3g})",
        f"{row['peak_memory_mib']:.0f}",
        f"{row['memory_above_start_mib']:.0f}",
    ]
