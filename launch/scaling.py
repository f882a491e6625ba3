"""Tasks per second and memory per process on 1, 2, ... processes of one machine, for each strategy.

launch/scaling.py --output FILE.json [--config FILE] [key=value ...] writes FILE.md and FILE.png beside it. The tasks of
an outer step stay the same and are shared out, as in training (strong scaling). The same command again goes on where it
was stopped.
"""

import json
import sys
from argparse import RawDescriptionHelpFormatter
from dataclasses import asdict
from pathlib import Path

try:
    from tqdm import tqdm

    from problems import find_problem
    from problems.methods import build_levels
    from reckoning_betty.command_line import OneSentenceParser, names, numbers, run_command
    from reckoning_betty.config_io import load_config
    from reckoning_betty.errors import NotMeasured, UserError
    from reckoning_betty.scaling.cells import STRATEGIES, choose_cells
    from reckoning_betty.scaling.launcher import Launcher
    from reckoning_betty.scaling.process import WARM_UP
    from reckoning_betty.scaling.report import line_of, write_report
    from reckoning_betty.scaling.results import Results
    from reckoning_betty.training.check import check_model
    from reckoning_betty.training.run_directory import refuse_unwritable
except ImportError as error:
    sys.exit(f"error: {error}")

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "engine_configs" / "clutrr" / "scaling.yaml"


def arguments() -> OneSentenceParser:
    parser = OneSentenceParser(
        prog="launch/scaling.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the rows")
    parser.add_argument("--processes", type=numbers, default=[1, 2], help="how many, each apart (default 1,2)")
    parser.add_argument(
        "--strategies", type=names, default=list(STRATEGIES), help=f"which to measure (default {','.join(STRATEGIES)})"
    )
    parser.add_argument("--problem", default="clutrr", help="name of a problem (default clutrr)")
    parser.add_argument("--config", type=Path, help="YAML run config; without it a model at which two CPU cores pay")
    parser.add_argument("--steps", type=int, default=6, help="outer steps that a run times (default 6)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each strategy, in turn (default 3)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config values, for example model.width=512")
    return parser


def main() -> None:
    given = arguments().parse_intermixed_args()
    refuse_unwritable(given.output)
    if given.output.suffix != ".json":
        raise UserError(f"--output {given.output} must end in .json, because .md and .png stand beside it.")
    for option in ("steps", "runs"):
        if getattr(given, option) < 1:
            raise UserError(f"--{option} {getattr(given, option)} must be 1 or more.")
    problem = find_problem(given.problem)
    default = CONFIG if given.problem == "clutrr" else problem.default_config
    config = load_config(problem.name, problem.data_config, given.config or default, given.overrides)
    tasks = config.training(config.method).tasks_per_step
    cells = choose_cells(given.strategies, given.processes, tasks)
    splits = problem.load_splits(config.data, config.data_path or None, config.seed)
    check_model(config, splits, problem.prompts_of(config), build_levels)
    settings = {"steps": given.steps, "warm_up": WARM_UP, "tasks_per_step": tasks, "config": _plain(asdict(config))}
    results = Results(given.output, settings)
    script, launchers = ROOT / "launch" / "scaling_process.py", ROOT / "engine_configs" / "accelerate"
    launcher = Launcher(script=script, launchers=launchers, config=config, steps=given.steps)
    refused = set()
    with tqdm(total=len(cells) * given.runs, unit="run", desc="scaling") as bar:
        for number in range(given.runs):
            for cell in cells:
                bar.set_postfix_str(f"{cell.strategy}, {cell.processes} processes")
                if results.runs(cell) <= number and cell not in refused:
                    try:
                        results.add(cell, launcher.measure(cell))
                    except NotMeasured as error:
                        results.refuse(cell, error)
                        refused.add(cell)
                bar.update()
    write_report(results.content, given.output)
    print("\n".join(map(line_of, results.rows)))
    if len(refused) == len(cells):
        raise UserError(f"Nothing could be measured: {results.rows[0]['reason']}")
    print(f"Rows, table and picture: {given.output} and beside it")


def _plain(config: dict) -> dict:
    """As it comes back from a JSON file."""
    return json.loads(json.dumps(config))


if __name__ == "__main__":
    run_command(main)
