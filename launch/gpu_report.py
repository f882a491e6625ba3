"""bfloat16 against float32 products on a GPU: launch/gpu_report.py --output FILE.json

GPT-2-small's shape with 1,024 tokens of facts per task: losses of some outer steps, tasks per second, peak memory, and
FLOP/s over the measured rate of a matrix product. FILE.md, a table, stands beside the JSON.
"""

import sys
from argparse import RawDescriptionHelpFormatter
from dataclasses import replace
from pathlib import Path

try:
    import torch
    from tqdm import tqdm

    from reckoning_betty.benchmark.rounded import FULL, PRECISIONS, TINY, matmul_rate, measure, table
    from reckoning_betty.command_line import OneSentenceParser, run_command
    from reckoning_betty.errors import UserError
    from reckoning_betty.training.run_directory import commit, refuse_unwritable, versions, write_json
except ImportError as error:
    sys.exit(f"error: {error}")


def arguments() -> OneSentenceParser:
    parser = OneSentenceParser(
        prog="launch/gpu_report.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the rows")
    parser.add_argument("--steps", type=int, default=10, help="outer steps that are timed (default 10)")
    parser.add_argument("--tasks", type=int, default=FULL.tasks, help=f"of an outer step (default {FULL.tasks})")
    parser.add_argument("--quick", action="store_true", help="a tiny shape, on the CPU too, to try the command")
    return parser


def main() -> None:
    given = arguments().parse_args()
    refuse_unwritable(given.output)
    if given.output.suffix != ".json":
        raise UserError(f"--output {given.output} must end in .json, because .md stands beside it.")
    for option, value in (("--steps", given.steps), ("--tasks", given.tasks)):
        if value < 1:
            raise UserError(f"{option} {value} must be 1 or more; leave it out for the default.")
    if not (given.quick or torch.cuda.is_available()):
        raise UserError("There is no GPU here: add --quick to try the command on the CPU, at a tiny size.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape, size = (TINY, 256) if given.quick else (replace(FULL, tasks=given.tasks), 8192)
    rates = {precision: matmul_rate(precision, device, size) for precision in PRECISIONS}
    content = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "matmul_gflops": rates,
        "matmul": f"{size} x {size} x {size}, median",
        "versions": versions(),
        "commit": commit(),
        "rows": [],
    }
    ways = [(checkpoint, precision) for checkpoint in (True, False) for precision in PRECISIONS]
    for checkpoint, precision in tqdm(ways, unit="way", desc="gpu_report"):
        try:
            row = measure(shape, precision, checkpoint, device, given.steps, rates[precision])
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            tqdm.write(f"{precision}, inner.checkpoint={checkpoint}: does not fit; try fewer --tasks.", file=sys.stderr)
            continue
        content["rows"].append(row)
        write_json(given.output, content)
    text = f"{content['device']}, torch {torch.__version__}\n\n{table(content['rows'])}"
    given.output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    run_command(main)
