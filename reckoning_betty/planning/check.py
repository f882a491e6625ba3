"""Plans held against measurements: a JSON file, a table and a picture, continued where it was stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.errors import UserError
from reckoning_betty.planning.bill import GIB
from reckoning_betty.planning.configurations import Configuration
from reckoning_betty.planning.measure import measure
from reckoning_betty.planning.trace import trace
from reckoning_betty.training.run_directory import commit, read_json, versions, write_json

Row = dict[str, Any]

ALLOWED = 0.2
"""By how much a plan may be off, as a share of what was measured."""


class Check:
    """The rows so far.

    Args:
        file: JSON; ``.md`` and ``.png`` stand beside it.
        build_levels: ``problems.methods.build_levels``.

    Raises:
        UserError: the file holds something else.
    """

    def __init__(self, file: Path, build_levels: Callable[..., Any]):
        self.file = file
        self.build_levels = build_levels
        self.rows: list[Row] = []
        if file.exists():
            self.rows = read_json(file).get("rows")
            if not isinstance(self.rows, list):
                raise UserError(f"--check {file} is no file of a check; name another, or a new one.")

    def add(self, configuration: Configuration) -> None:
        """Plan and measure ``configuration``, unless its row is there."""
        known = [(row["architecture"], row["name"]) for row in self.rows]
        if (configuration.architecture, configuration.name) in known:
            return
        planned = trace(configuration.step(self.build_levels)).bill
        measured = measure(configuration, self.build_levels, threads=1)
        self.rows.append(
            {
                "architecture": configuration.architecture,
                "name": configuration.name,
                "method": configuration.method,
                "width": configuration.width,
                "layers": configuration.layers,
                "tasks": configuration.tasks,
                "tokens": configuration.batch.facts * configuration.batch.fact_tokens,
                "planned": planned.peak,
                "measured": measured["peak"],
                "seconds_per_step": measured["seconds"],
                "commit": commit(),
            }
        )

    def write(self) -> None:
        """All three files."""
        write_json(self.file, {"versions": versions(), "rows": self.rows})
        text = self.markdown() + "\n"
        replace_file(self.file.with_suffix(".md"), lambda new: new.write_text(text, encoding="utf-8"))
        replace_file(self.file.with_suffix(".png"), lambda new: self._draw().savefig(new, format="png", dpi=130))

    def markdown(self) -> str:
        """A table of all rows, in MiB."""
        lines = [
            "| configuration | width | layers | tasks | tokens | planned MiB | measured MiB | planned / measured "
            "| s per step |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for row in self.rows:
            sizes = [row[key] / 2**20 for key in ("planned", "measured")]
            lines.append(
                f"| {row['architecture']}: {row['name']} | {row['width']} | {row['layers']} | {row['tasks']} "
                f"| {row['tokens']} | {sizes[0]:,.0f} | {sizes[1]:,.0f} | {sizes[0] / sizes[1]:.3f} "
                f"| {min(row['seconds_per_step']):.1f} |"
            )
        return "\n".join(lines)

    def _draw(self) -> Figure:
        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        axes = figure.subplots()
        both = [(row["planned"] / GIB, row["measured"] / GIB) for row in self.rows]
        ends = [0.7 * min(map(min, both)), 1.4 * max(map(max, both))]
        axes.plot(ends, ends, color="#bbbbbb", lw=1)
        axes.fill_between(
            ends,
            [end / (1 + ALLOWED) for end in ends],
            [end / (1 - ALLOWED) for end in ends],
            color="#eeeeee",
            label=f"within {ALLOWED:.0%}",
        )
        for architecture, colour, marker in (("gpt2", "#1b6ca8", "o"), ("llama", "#d1603d", "s")):
            points = [pair for pair, row in zip(both, self.rows, strict=True) if row["architecture"] == architecture]
            axes.scatter(
                *zip(*points, strict=True) if points else ([], []), color=colour, marker=marker, label=architecture
            )
        axes.set(
            xscale="log",
            yscale="log",
            xlim=ends,
            ylim=ends,
            xlabel="planned peak (GiB)",
            ylabel="measured peak (GiB)",
            title="Memory of an outer step, planned without weights and measured",
        )
        axes.legend(frameon=False)
        return figure
