"""Label accuracy of a checkpoint by split and hops: launch/evaluate.py --checkpoint DIR --problem clutrr --data PATH"""

import sys
from pathlib import Path

try:
    import torch
    from tqdm import tqdm

    from problems import find_problem
    from reckoning_betty.answering import answerer_of
    from reckoning_betty.checkpoint import load_checkpoint
    from reckoning_betty.command_line import OneSentenceParser, run_command
    from reckoning_betty.config_io import load_data_config
    from reckoning_betty.errors import UserError
    from reckoning_betty.evaluation import accuracy_table
    from reckoning_betty.report import accuracy_lines
    from reckoning_betty.training.run_directory import refuse_unwritable, write_json
except ImportError as error:
    sys.exit(f"error: {error}")


def arguments() -> OneSentenceParser:
    parser = OneSentenceParser(prog="launch/evaluate.py", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the checkpoint folder of a run")
    parser.add_argument("--problem", required=True, help="name of a problem, for example clutrr")
    parser.add_argument("--data", help="folder, file or hub name of real data; without it the embedded generator")
    parser.add_argument("--output", type=Path, help="JSON file for {split: {hops: {n, label_accuracy}}}")
    parser.add_argument("--inner-steps", type=int, help="inner steps; without it as many as trained")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="data options, for example form=sentences")
    return parser


def main() -> None:
    given = arguments().parse_intermixed_args()
    problem = find_problem(given.problem)
    if given.output:
        refuse_unwritable(given.output)
    checkpoint = load_checkpoint(given.checkpoint)
    if checkpoint.problem != problem.name:
        raise UserError(f"--checkpoint {given.checkpoint} is of another problem: type --problem {checkpoint.problem}.")
    options = load_data_config(problem.data_config, checkpoint.note.get("data", {}), given.overrides)
    splits = problem.load_test_splits(options, given.data, checkpoint.note.get("seed", 0))
    if not any(splits.values()):
        raise UserError(f"--data {given.data} holds no tasks to evaluate on.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    answerer = answerer_of(checkpoint, device, given.inner_steps)
    tables = {}
    for split, tasks in splits.items():
        with tqdm(total=len(tasks), desc=split, unit="task", mininterval=1) as bar:
            tables[split] = accuracy_table(tasks, answerer.answer(tasks, on_batch=bar.update).texts)
    lines = {split: {hops: row["label_accuracy"] for hops, row in table.items()} for split, table in tables.items()}
    print("\n".join(accuracy_lines(lines, f"Label accuracy of {checkpoint.method} by hops (%)", first="split")))
    if given.output:
        write_json(given.output, tables)


if __name__ == "__main__":
    run_command(main)
