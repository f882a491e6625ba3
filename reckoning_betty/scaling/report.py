"""The rows of a scaling measurement for people: a table in Markdown and a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.scaling.cells import ONE_PROCESS
from reckoning_betty.scaling.results import Row

COLOURS = {"ddp": "#1b6ca8", "sharded": "#d1603d", "zero1": "#2a9d8f", "zero2": "#e9a820", ONE_PROCESS: "#404040"}
MARKERS = {"ddp": "o", "sharded": "s", "zero1": "^", "zero2": "v", ONE_PROCESS: "D"}
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
    """Tasks per second, and memory of a process, against the number of processes."""
    figure = Figure(figsize=(10, 4.2), layout="constrained", dpi=120)
    speed, memory = figure.subplots(1, 2)
    measured = [row for row in rows if row["status"] == "measured"]
    alone = next((row for row in measured if row["strategy"] == ONE_PROCESS), None)
    numbers = sorted({row["processes"] for row in measured})
    if alone and len(numbers) > 1:
        perfect = [alone["tasks_per_second"] * number for number in numbers]
        speed.plot(numbers, perfect, color="#b0b0b0", linestyle="--", label="tasks/s of one process, times processes")
    _lines(speed, measured, alone, lambda row: row["tasks_per_second"])
    _lines(memory, measured, alone, lambda row: row["memory_above_start_mib"])
    speed.set(ylabel="tasks per second", title="Speed, the same tasks per outer step")
    memory.set(ylabel="MiB above start", title="Memory of the largest process")
    for axes in (speed, memory):
        axes.set(xlabel="processes", ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(FixedLocator(numbers))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.12)
    handles, labels = speed.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    replace_file(file, lambda new: figure.savefig(new, format="png"))


def _lines(axes: Axes, rows: Sequence[Row], alone: Row | None, value: Callable[[Row], float]) -> None:
    """A line for each strategy, from one process on, with the spread of the runs' times on the tasks per second."""
    for name in dict.fromkeys(row["strategy"] for row in rows if row is not alone):
        mine = ([alone] if alone else []) + [row for row in rows if row["strategy"] == name]
        points = [(row["processes"], value(row)) for row in mine]
        axes.plot(*zip(*points, strict=True), color=COLOURS[name], marker=MARKERS[name], ms=6, label=name)
    if alone:
        axes.plot(
            1, value(alone), color=COLOURS[ONE_PROCESS], marker=MARKERS[ONE_PROCESS], ms=7, ls="", label=ONE_PROCESS
        )


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
