"""Will it fit: the memory of an outer step per strategy and method, without loading weights.

python launch/plan.py --problem clutrr --model NAME_OR_FOLDER --devices N --memory GB [--config FILE] [key=value ...]
python launch/plan.py --check FILE.json holds plans against measurements on this machine's CPU.
"""

import json
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from pathlib import Path

try:
    import torch
    from tqdm import tqdm

    from problems import find_problem
    from problems.methods import build_levels
    from reckoning_betty.command_line import OneSentenceParser, run_command
    from reckoning_betty.config_io import load_config
    from reckoning_betty.errors import UserError
    from reckoning_betty.hypergradients.registry import METHODS
    from reckoning_betty.planning.batch import BatchShape, largest_batch
    from reckoning_betty.planning.bill import GIB
    from reckoning_betty.planning.check import Check
    from reckoning_betty.planning.configurations import CONFIGURATIONS, GPT2_SMALL
    from reckoning_betty.planning.decoder import read_decoder, read_encoder
    from reckoning_betty.planning.outer_step import OuterStep
    from reckoning_betty.planning.table import changes, lines_of, rows_of
    from reckoning_betty.training.run_directory import refuse_unwritable, write_json
except ImportError as error:
    sys.exit(f"error: {error}")


def arguments() -> OneSentenceParser:
    parser = OneSentenceParser(prog="launch/plan.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--problem", help="name of a problem, for example clutrr")
    parser.add_argument("--model", help="folder or hub name of a decoder; its config and tokenizer are enough")
    parser.add_argument("--config", type=Path, help="YAML run config; without it the problem's default one")
    parser.add_argument("--data", help="folder, file or hub name of real data; without it the embedded generator")
    parser.add_argument("--devices", type=int, default=1, help="processes, one per device (default 1)")
    parser.add_argument("--memory", type=float, help="GB (2^30 bytes) of each device")
    parser.add_argument("--facts", type=int, help="facts of a task, in place of the problem's")
    parser.add_argument("--fact-tokens", type=int, help="tokens of a fact, in place of the problem's")
    parser.add_argument("--output", type=Path, help="JSON file for the bills too, in bytes")
    parser.add_argument("--check", type=Path, metavar="FILE.json", help="check plans instead; goes on where it stopped")
    parser.add_argument("--gpt2-small", action="store_true", help="with --check: GPT-2 small at 1,024 tokens (14 GiB)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config values, for example inner.steps=6")
    return parser


def main() -> None:
    given = arguments().parse_intermixed_args()
    torch.set_num_threads(1)
    refuse_bad(given)
    if given.check:
        check(given)
    else:
        plan(given)


def plan(given: Namespace) -> None:
    step = read_step(given)
    memory = given.memory * GIB
    print(f"{given.problem}: {step.batch}; {step.config.reckoning.tasks_per_step} tasks per step", flush=True)
    with tqdm(total=len(METHODS), unit="method", desc="plan") as bar:

        def show(method: str) -> None:
            bar.set_postfix_str(method)
            bar.update()

        rows = list(rows_of(step, given.devices, show))
    print(f"GiB of one process, {given.devices} in all, each with {given.memory:g}:")
    print("\n".join(lines_of(rows, memory)))
    print("fits: yes, or tight (within the 20% by which plans err), or no. A GPU's context and its cache come on top.")
    if given.output:
        write_json(given.output, {"memory": memory, "rows": [row.as_json(memory) for row in rows]})
    if any(row.fits(memory) != "no" for row in rows):
        return
    print(f"Nothing fits. What takes less with hypergradient={step.config.hypergradient}:", flush=True)
    smallest = min(row.bill.peak for row in rows if row.bill and row.method == step.config.hypergradient)
    enough = False
    for typed, bill in changes(step, given.devices, smallest):
        enough = enough or bill.peak <= memory
        print(f"  {bill.peak / GIB:8.2f}  {'fits' if bill.peak <= memory else 'still too much':15} {typed}", flush=True)
    if not enough:
        print("None is enough: take a smaller model, fewer facts, fewer inner.steps, or more memory.")


def read_step(given: Namespace) -> OuterStep:
    problem = find_problem(given.problem)
    overrides = given.overrides + ([f"data_path={json.dumps(given.data)}"] if given.data else [])
    overrides += [f"model.name={json.dumps(given.model)}"] if given.model else []
    config = load_config(problem.name, problem.data_config, given.config or problem.default_config, overrides)
    splits = problem.load_splits(config.data, config.data_path or None, config.seed)
    decoder = read_decoder(config.model, splits.vocabulary)
    if given.facts:
        batch = BatchShape(facts=given.facts * (2 if config.inner.backwards else 1), fact_tokens=given.fact_tokens)
    else:
        encoder = read_encoder(config.model, splits.vocabulary, problem.prompts_of(config))
        training = config.reckoning
        window, recall = training.bucket_steps, config.recalls_behind_answers
        batch = largest_batch(splits.train, encoder, training.tasks_per_step, window, config.seed, recall)
    longest = getattr(decoder.get_text_config(), "max_position_embeddings", None) or batch.fact_tokens
    if batch.fact_tokens > longest:
        raise UserError(f"A fact of {batch.fact_tokens} tokens does not fit the model's {longest}: give shorter facts.")
    return OuterStep(config=config, decoder=decoder, batch=batch, build_levels=build_levels)


def check(given: Namespace) -> None:
    configurations = CONFIGURATIONS + (GPT2_SMALL if given.gpt2_small else [])
    check = Check(given.check, build_levels)
    with tqdm(configurations, unit="configuration", desc="check") as bar:
        for configuration in bar:
            bar.set_postfix_str(f"{configuration.architecture}, {configuration.name}")
            check.add(configuration)
            check.write()
    print(check.markdown())


def refuse_bad(given: Namespace) -> None:
    if given.check:
        refuse_unwritable(given.check)
        if given.check.suffix != ".json":
            raise UserError(f"--check {given.check} must end in .json, because .md and .png stand beside it.")
        return
    if given.problem is None or given.memory is None:
        missing = "--problem" if given.problem is None else "--memory"
        raise UserError(f"{missing} is missing; type: launch/plan.py --problem clutrr --devices 1 --memory 80.")
    if given.devices < 1:
        raise UserError(f"--devices {given.devices} must be 1 or more; give --devices 1.")
    if not given.memory > 0:
        raise UserError(f"--memory {given.memory:g} must be above 0; give the GB of one device, --memory 80.")
    if (given.facts is None) != (given.fact_tokens is None):
        raise UserError("--facts and --fact-tokens go together; give both, as in --facts 8 --fact-tokens 128.")
    if given.facts is not None and (given.facts < 1 or given.fact_tokens < 2):
        raise UserError("--facts takes 1 or more and --fact-tokens 2 or more; give --facts 8 --fact-tokens 128.")
    if given.output:
        refuse_unwritable(given.output)


if __name__ == "__main__":
    run_command(main)
