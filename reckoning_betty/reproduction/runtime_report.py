"""Run times as Markdown and as a picture."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.reproduction.experiment import Experiment
from reckoning_betty.reproduction.figures import COLOURS
from reckoning_betty.reproduction.runtime import ARMS, Line, faster_from
from reckoning_betty.reproduction.tables import table


def runtime_markdown(experiment: Experiment, content: dict[str, Any]) -> str:
    """The heading, seconds to take in the facts and to answer, and from how many questions RECKONING is the faster."""
    head = ["model", "N", "arm", "facts", "each question", "1 question", f"{_questions(content)} questions"]
    head.append("RECKONING is faster from")
    rows = []
    for model, steps, lines in _groups(content):
        for arm, line in lines.items():
            times = (line.start, line.each, line.at(1), line.at(_questions(content)))
            first = faster_from(lines[ARMS[0]], line) if arm != ARMS[0] else ""
            told = "never" if first is None else str(first)
            rows.append([model, str(steps), arm, *(f"{value:.3g}" for value in times), told])
    config, tokens = content["config"], content["rows"][0]["tokens"]
    said = f"Seconds, {tokens} tokens, {config['threads']} thread(s), medians of {config['repeats']} runs in turn."
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    origin = f"Commit {content['commit']}; {versions}."
    parts = (f"## {experiment.title}", experiment.source, said, table(head, rows), experiment.reading, origin)
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def draw_runtime(content: dict[str, Any], file: Path) -> None:
    """Seconds over the number of questions, a panel for each model and N."""
    groups = list(_groups(content))
    figure = Figure(figsize=(1 + 3.4 * len(groups), 3.6), layout="constrained", dpi=120)
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, (model, steps, lines) in zip(panels, groups, strict=True):
        numbers = range(1, _questions(content) + 1)
        for (arm, line), colour in zip(lines.items(), COLOURS, strict=False):
            axes.plot(numbers, [line.at(number) for number in numbers], color=colour, label=arm)
        axes.set(xlabel="questions", ylabel="seconds", title=f"{model}, N = {steps}", ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    replace_file(file, lambda new: figure.savefig(new, format="png"))


def _groups(content: dict[str, Any]):
    for model in content["config"]["models"]:
        for steps in content["config"]["inner_steps"]:
            mine = [row for row in content["rows"] if (row["model"], row["inner_steps"]) == (model, steps)]
            yield model, steps, {row["arm"]: Line.of(row["seconds"]) for row in mine}


def _questions(content: dict[str, Any]) -> int:
    return len(content["rows"][0]["seconds"][0]) - 1
