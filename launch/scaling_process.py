"""One process of a run of launch/scaling.py, which starts it: launch/scaling_process.py --folder FOLDER ..."""

import sys
from pathlib import Path

try:
    from problems import find_problem
    from problems.methods import build_levels
    from reckoning_betty.command_line import OneSentenceParser, run_command
    from reckoning_betty.config_io import load_saved_config
    from reckoning_betty.scaling.process import measure_process
except ImportError as error:
    sys.exit(f"error: {error}")


def arguments() -> OneSentenceParser:
    parser = OneSentenceParser(prog="launch/scaling_process.py", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="with config.yaml; what is found goes there")
    parser.add_argument("--problem", required=True, help="of the config")
    parser.add_argument("--steps", type=int, required=True, help="outer steps to time")
    return parser


def main() -> None:
    given = arguments().parse_args()
    problem = find_problem(given.problem)
    config = load_saved_config(problem.name, problem.data_config, given.folder / "config.yaml")
    splits = problem.load_splits(config.data, config.data_path or None, config.seed)
    measure_process(config, splits, problem.prompts_of(config), build_levels, given.steps, given.folder)


if __name__ == "__main__":
    run_command(main)
