"""Rerun the paper's experiments: python launch/reproduce.py --list | NAME [--size small|paper] [--resume]"""

import functools
import json
import os
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

try:
    import torch

    from problems import find_problem
    from reckoning_betty.command_line import OneSentenceParser, run_command
    from reckoning_betty.config import RunConfig
    from reckoning_betty.config_io import load_values
    from reckoning_betty.errors import UserError
    from reckoning_betty.reproduction.experiment import Experiment, experiment_names, load_experiment
    from reckoning_betty.reproduction.figures import draw
    from reckoning_betty.reproduction.page import figure_file, make_page, result_file, section
    from reckoning_betty.reproduction.plan import Plan
    from reckoning_betty.reproduction.results import Results, collect, known_outcomes, save_finished, save_what_is_new
    from reckoning_betty.reproduction.running import Trainer, run_units
    from reckoning_betty.reproduction.runtime import measure
    from reckoning_betty.reproduction.runtime_report import draw_runtime
    from reckoning_betty.training.engine import Interrupted
    from reckoning_betty.training.run_directory import write_json
except ImportError as error:
    sys.exit(f"error: {error}")

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "engine_configs" / "reproduce"
NOTE = """
Every run stands in a folder of its own below --runs, named after its config, so that experiments share equal ones. What
is done there is never run again; --resume goes on with what was stopped, and takes what the results files hold already.
"""
STOPPED = "Stopped; what was done is kept, and the same command with --resume goes on."


def arguments() -> OneSentenceParser:
    parser = OneSentenceParser(
        prog="launch/reproduce.py", description=__doc__ + NOTE, formatter_class=RawDescriptionHelpFormatter
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("name", nargs="?", help="an experiment; --list names them")
    asked.add_argument("--list", action="store_true", help="print the experiments and exit")
    asked.add_argument("--page", action="store_true", help="write the page that reads all results and exit")
    parser.add_argument("--size", default="small", help="small: 2 CPU cores; paper: GPT-2, a GPU (default small)")
    parser.add_argument("--resume", action="store_true", help="go on with what is below --runs and in results")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="folder of all runs")
    parser.add_argument(
        "--workers", type=int, default=0, help="runs at a time (default 0: one per core, or with a GPU one)"
    )
    parser.add_argument("--output", type=Path, help=f"folder of YAML files and results (default {FOLDER})")
    return parser


def main() -> None:
    parser = arguments()
    given = parser.parse_args()
    folder = given.output or FOLDER
    if given.list:
        list_experiments(folder)
    elif given.page:
        (folder / "RESULTS.md").write_text(make_page(folder), encoding="utf-8")
        print(f"Wrote {folder / 'RESULTS.md'}")
    else:
        reproduce(given, folder)


def list_experiments(folder: Path) -> None:
    for name in experiment_names(folder):
        experiment = load_experiment(folder, name)
        print(f"{name:12} {experiment.title} ({', '.join(experiment.sizes)})")


def reproduce(given: Any, folder: Path) -> None:
    if given.name is None:
        raise UserError(f"Name an experiment: {', '.join(experiment_names(folder))}; or type --list.")
    if given.workers < 0:
        raise UserError(f"--workers {given.workers} must be 0 or more; 0 takes one per core, or with a GPU one.")
    experiment = load_experiment(folder, given.name)
    size = experiment.size(given.size)
    if experiment.is_timed:
        kept = given.runs / f"{experiment.name}_{given.size}.json"
        report(experiment, given.size, measured(given, experiment, kept), folder)
        return kept.unlink()  # what it keeps is in the results now
    known = known_outcomes(folder / "results") if given.resume else {}
    plan = Plan(size=size, resolve=resolve, root=given.runs, known=known)
    refuse_unasked(given, plan)
    workers = given.workers or (1 if torch.cuda.is_available() else len(os.sched_getaffinity(0)))
    trainer = Trainer([sys.executable, str(ROOT / "launch" / "train.py")], ROOT, workers)
    trials, name = plan.trials(), experiment.name
    number = len(size.settings) * len(size.arms) * len(size.seeds)

    def keep() -> None:
        save_what_is_new(collect(experiment, given.size, plan), result_file(folder, experiment.name, given.size))

    try:
        run_units(trials, trainer, f"{name}, trials", keep, after=number, may_diverge=True)
        run_units([unit for *_, unit in plan.runs()], trainer, name, keep, before=len(trials))
    except KeyboardInterrupt:
        raise Interrupted(STOPPED) from None
    report(experiment, given.size, collect(experiment, given.size, plan), folder)


def measured(given: Any, experiment: Experiment, kept: Path) -> dict[str, Any]:
    """
    Raises:
        UserError: timings were begun before, and ``--resume`` is missing.
    """
    size = experiment.size(given.size)
    if kept.is_file() and not given.resume:
        raise UserError(f"{kept} holds timings that were stopped: add --resume to go on, or name other --runs.")
    problem = find_problem(size.problem)
    splits = problem.load_splits(problem.data_config(**size.data), None, 0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return measure(size, splits, problem.prompts, device, kept)
    except KeyboardInterrupt:
        raise Interrupted(STOPPED) from None


def refuse_unasked(given: Any, plan: Plan) -> None:
    """
    Raises:
        UserError: a run was begun before, and ``--resume`` is missing.
    """
    units = plan.trials()
    if all(unit.is_done for unit in units):
        units += [unit for *_, unit in plan.runs()]
    begun = any(unit.run.config.is_file() and not unit.is_done for unit in units)
    if begun and not given.resume:
        raise UserError(f"{given.runs} holds runs that were stopped: add --resume to go on, or name other --runs.")


def report(experiment: Experiment, size: str, content: dict[str, Any], folder: Path) -> None:
    file, figure = result_file(folder, experiment.name, size), figure_file(folder, experiment.name, size)
    file.parent.mkdir(parents=True, exist_ok=True)
    if experiment.is_timed:
        write_json(file, content)
        draw_runtime(content, figure)
    else:
        content = save_finished(content, file)
        draw(experiment, Results(content), figure)
    print(section(experiment, content))
    print(f"Results: {file}; the page with all: python launch/reproduce.py --page")


def resolve(values: dict[str, Any]) -> RunConfig:
    return _resolved(json.dumps(values, sort_keys=True))


@functools.cache  # a plan is read anew after every run
def _resolved(text: str) -> RunConfig:
    values = json.loads(text)
    problem = find_problem(values["problem"])
    return load_values(problem.name, problem.data_config, values, "The experiment")


if __name__ == "__main__":
    run_command(main)
