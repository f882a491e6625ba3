"""The page that reads all results: made from the files alone, so that a test can make it again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from reckoning_betty.reproduction.claims import check
from reckoning_betty.reproduction.experiment import Experiment, experiment_names, load_experiment
from reckoning_betty.reproduction.results import Results
from reckoning_betty.reproduction.runtime_report import runtime_markdown
from reckoning_betty.reproduction.tables import differences_from, markdown, table
from reckoning_betty.training.run_directory import read_json

HEAD = """# The paper's experiments

Made by `python launch/reproduce.py --page` from the JSON files below `results/`; a test fails where the two disagree.
What is asked of each experiment stands in its YAML file, with the settings, arms and trials of both sizes. The paper's
numbers are of GPT-2 on its own data; ours at size small are of models from random weights, on embedded data but for the
real files and FOLIO.
"""


def result_file(folder: Path, name: str, size: str) -> Path:
    """Where an experiment's results are."""
    return folder / "results" / f"{name}_{size}.json"


def figure_file(folder: Path, name: str, size: str) -> Path:
    """And its figure."""
    return result_file(folder, name, size).with_suffix(".png")


def section(experiment: Experiment, content: dict[str, Any]) -> str:
    """An experiment's part of the page, from what its results file holds."""
    return runtime_markdown(experiment, content) if experiment.is_timed else markdown(experiment, Results(content))


def overview(experiment: Experiment, content: dict[str, Any]) -> list[str]:
    """A row of the table at the page's head: how many claims hold, in words which do not, and what is better."""
    link = f"[{experiment.title}](#{_anchor(experiment.title)})"
    if experiment.is_timed:
        return [link, "", "", "", "timed; see there", ""]
    results = Results(content)
    verdicts = [check(claim, results) for claim in experiment.claims]
    numbers = (sum(verdict.holds is decided for verdict in verdicts) for decided in (True, False, None))
    failed = [f"{verdict.claim.says}: {verdict.told}" for verdict in verdicts if verdict.holds is False]
    return [link, *map(str, numbers), "; ".join(failed), _above_the_paper(experiment, results)]


def _above_the_paper(experiment: Experiment, results: Results) -> str:
    """How many of the paper's known numbers the first arm is above, where all its runs are done, and where by most."""
    arm, seeds = results.arms[0], len(results.content["seeds"])
    differences = {
        setting if hops is None else f"{setting}, {hops} hops": difference
        for setting, known in experiment.paper.get(arm, {}).items()
        if len(results.rows(setting, arm)) == seeds
        for hops, difference in differences_from(known, results, setting, arm, experiment.measure).items()
    }
    above = {where: difference for where, difference in differences.items() if difference > 0}
    if not above:
        return f"0 of {len(differences)}" if differences else ""
    most = max(above, key=above.__getitem__)
    return f"{len(above)} of {len(differences)}, by up to {above[most]:.1f} points ({most})"


def _anchor(title: str) -> str:
    """The name that GitHub gives a heading."""
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


def make_page(folder: Path) -> str:
    """All experiments of ``folder`` that have results, after a table that counts what holds."""
    parts, rows = [], []
    for name in experiment_names(folder):
        loaded = load_experiment(folder, name)
        for size in loaded.sizes:
            file = result_file(folder, name, size)
            if file.is_file():
                experiment = loaded if size == "small" else replace(loaded, title=f"{loaded.title}, size {size}")
                picture = figure_file(folder, name, size)
                content = read_json(file)
                rows.append(overview(experiment, content))
                parts.append(section(experiment, content))
                if picture.is_file():  # drawn when all runs are done
                    parts.append(f"![{experiment.title}]({picture.relative_to(folder)})\n")
    head = ["experiment", "holds", "does not", "not run yet", "what does not", "RECKONING above the paper's numbers"]
    counts = table(head, rows)
    return "\n".join([HEAD, counts + "\n", *parts])
