"""Train a problem's method and baselines: accelerate launch launch/train.py --problem clutrr [key=value ...]"""

import json
import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

try:
    import torch

    from problems import find_problem
    from problems.methods import build_levels
    from reckoning_betty.command_line import OneSentenceParser, run_command
    from reckoning_betty.config_io import load_config, load_saved_config, save_config
    from reckoning_betty.distributed.mixed_precision import with_launched_precision
    from reckoning_betty.distributed.processes import Processes
    from reckoning_betty.errors import UserError
    from reckoning_betty.guards import NonFiniteError
    from reckoning_betty.threads import choose_threads
    from reckoning_betty.training.check import check_model
    from reckoning_betty.training.engine import Interrupted
    from reckoning_betty.training.run import Run, print_table, start_trackers
    from reckoning_betty.training.run_directory import open_run
except ImportError as error:
    sys.exit(f"error: {error}")


def arguments() -> OneSentenceParser:
    parser = OneSentenceParser(prog="launch/train.py", description=__doc__)
    parser.add_argument("--problem", required=True, help="name of a problem, for example clutrr")
    parser.add_argument("--config", type=Path, help="YAML run config; without it the problem's default one")
    parser.add_argument("--data", help="folder, file or hub name of real data; without it the embedded generator")
    parser.add_argument("--output", help="folder of the run; without it the next free one below runs/")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --output, or the latest one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config values, for example inner.steps=6")
    return parser


def main() -> None:
    given = arguments().parse_intermixed_args()
    problem, processes = find_problem(given.problem), Processes()
    if given.resume and (given.config or given.data or given.overrides):
        raise UserError("--resume takes the run's own config: leave out --config, --data and key=value.")
    if given.resume:
        directory = processes.from_main(lambda: open_run(given.output, problem.name, resume=True))
        config = load_saved_config(problem.name, problem.data_config, directory.config)
        splits = problem.load_splits(config.data, config.data_path or None, config.seed)
    else:
        overrides = given.overrides + ([f"data_path={json.dumps(given.data)}"] if given.data else [])
        config = load_config(problem.name, problem.data_config, given.config or problem.default_config, overrides)
        config = with_launched_precision(config)
        splits = problem.load_splits(config.data, config.data_path or None, config.seed)
        parameters = check_model(config, splits, problem.prompts_of(config), build_levels)
        choose = partial(choose_threads, parameters, processes.number_here)
        config = replace(config, threads=config.threads or processes.from_main(choose))
        directory = processes.from_main(lambda: open_run(given.output, problem.name, resume=False))
    torch.set_num_threads(config.threads)  # accelerate launch sets one, whatever the machine has
    accelerator = start_trackers(config, directory)
    if not given.resume:
        # after all that may be refused: the folder can be named again
        processes.on_main(lambda: save_config(config, directory.config))
    run = Run(
        config=config,
        splits=splits,
        prompts=problem.prompts_of(config),
        build_levels=build_levels,
        directory=directory,
        accelerator=accelerator,
    )
    where = accelerator.device if processes.number == 1 else f"{processes.number} processes ({accelerator.device.type})"
    if processes.is_main:
        print(f"{problem.name}: {', '.join(config.methods)} on {where}, in {directory.root}", flush=True)
    output = shlex.quote(str(directory.root))
    command = f"accelerate launch launch/train.py --problem {problem.name} --output {output} --resume"
    try:
        summary = run.execute()
    except Interrupted as interrupted:
        raise Interrupted(f"{interrupted}. Go on with: {command}") from None
    except NonFiniteError as error:
        kept = [
            folder for folder in (directory.checkpoint(m, config.method) for m in config.methods) if folder.exists()
        ]
        raise NonFiniteError(
            f"{error}. {f'The best checkpoint so far stays in {kept[-1]}' if kept else 'No checkpoint was saved yet'}; "
            f"start anew with a lower {config.method}.learning_rate or inner.initial_rate, or a smaller "
            f"{config.method}.clip_norm."
        ) from None
    finally:
        accelerator.end_training()
    if processes.is_main:
        print_table(summary)
        print(f"Checkpoint, summary and plots: {directory.root}")


if __name__ == "__main__":
    run_command(main)
