"""Speed and memory of the forms of fast weights, and of other libraries, on the same checked hypergradient.

launch/benchmark.py --output FILE.json writes FILE.md, FILE.png and FILE_growth.png beside it; the same command again
goes on where it was stopped.
"""

import os
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

try:
    import torch
    from tqdm import tqdm

    from reckoning_betty.benchmark.measure import (
        Options,
        key_of,
        measure_matmul_rate,
        measure_shape,
        memory_limit_mib,
        work_of,
    )
    from reckoning_betty.benchmark.report import line_of, write_report
    from reckoning_betty.benchmark.results import Results, describe_machine
    from reckoning_betty.benchmark.sweeps import EVERYTHING, SWEEPS, choose_sweeps
    from reckoning_betty.command_line import OneSentenceParser, run_command
    from reckoning_betty.errors import UserError
    from reckoning_betty.training.run_directory import refuse_unwritable
except ImportError as error:
    sys.exit(f"error: {error}")


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def arguments() -> OneSentenceParser:
    parser = OneSentenceParser(
        prog="launch/benchmark.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the rows")
    parser.add_argument(
        "--sweeps", type=names, default=list(SWEEPS), help=f"which to measure (default {','.join(SWEEPS)})"
    )
    parser.add_argument("--engines", type=names, help=f"only these (default {','.join(EVERYTHING)})")
    parser.add_argument("--runs", type=int, help="runs of each engine, in turn (default 5; 2 with --quick)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default 0: every core)")
    parser.add_argument("--memory-limit", type=float, default=20.0, help="GiB that one engine may take (default 20)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to try the command")
    return parser


def main() -> None:
    given = arguments().parse_args()
    refuse_bad(given)
    sweeps = choose_sweeps(given.sweeps, given.engines, given.quick)
    runs = given.runs or (2 if given.quick else 5)
    threads = given.threads or len(os.sched_getaffinity(0))
    results = Results(given.output, {"threads": threads, "runs_asked": runs})
    torch.set_num_threads(threads)
    rate = measure_matmul_rate(repeats=1 if given.quick else 9)
    results.machine = describe_machine(threads, rate)
    missing = {
        (sweep.name, shape): [e for e in sweep.engines if not results.has(key_of(sweep, shape, e))]
        for sweep in sweeps
        for shape in sweep.shapes
    }
    total = sum(work_of(len(engines), runs) for engines in missing.values())
    with tqdm(total=total, unit="run", desc="benchmark") as bar:
        options = Options(
            runs=runs,
            threads=threads,
            memory_limit_mib=memory_limit_mib(given.memory_limit),
            seconds_per_run=0.0 if given.quick else 1.5,
            on_progress=bar.update,
        )
        for sweep in sweeps:
            for shape in sweep.shapes:
                bar.set_postfix_str(f"{sweep.name}, width {shape.width}, {shape.tasks} tasks, N={shape.inner_steps}")
                engines = missing[sweep.name, shape]
                for row in measure_shape(sweep, shape, engines, results.current(), rate, options):
                    results.add(row)
                    bar.write(line_of(row), file=sys.stdout)
                if engines:
                    write_report(results.rows, results.machine, given.output)
    results.write()
    write_report(results.rows, results.machine, given.output)


def refuse_bad(given) -> None:
    refuse_unwritable(given.output)
    if given.output.suffix != ".json":
        raise UserError(f"--output {given.output} must end in .json, because .md and .png stand beside it.")
    if given.runs is not None and given.runs < 1:
        raise UserError(f"--runs {given.runs} must be 1 or more; give --runs 5.")
    if given.threads < 0:
        raise UserError(f"--threads {given.threads} must be 0, for every core, or more; give --threads 0.")
    if not given.memory_limit > 0:
        raise UserError(f"--memory-limit {given.memory_limit} must be above 0; give --memory-limit 20.")


if __name__ == "__main__":
    run_command(main)
