"""Compare hypergradient methods on a problem: python launch/compare.py --problem clutrr --output DIR [key=value ...]"""

import os
import statistics
import sys
from argparse import Action, ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

try:
    import torch
    import yaml
    from tqdm import tqdm

    from problems import find_problem
    from problems.methods import build_levels
    from reckoning_betty.command_line import OneSentenceParser, names, numbers, run_command
    from reckoning_betty.comparison import stages
    from reckoning_betty.comparison.plan import EXACT, Comparison, all_methods
    from reckoning_betty.comparison.plots import draw
    from reckoning_betty.comparison.report import collect, write_markdown
    from reckoning_betty.config_io import load_config
    from reckoning_betty.errors import UserError
    from reckoning_betty.hypergradients.cards import method_table
    from reckoning_betty.hypergradients.registry import find_method
except ImportError as error:
    sys.exit(f"error: {error}")

NOTE = """
For each method, in a process of its own: time and memory of an outer step, training from several seeds with equal outer
steps and equal time, and its hypergradient against the exact one in float64. The same command again goes on where it
was stopped. key=value sets the run config of all methods; METHOD.option=value an option of one, for example
cg.iterations=10.
"""


class ListMethods(Action):
    """Prints the table of methods."""

    def __call__(self, parser: ArgumentParser, *given: Any) -> None:
        print(method_table())
        parser.exit()


def arguments() -> OneSentenceParser:
    parser = OneSentenceParser(
        prog="launch/compare.py", description=__doc__ + NOTE, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action=ListMethods, nargs=0, help="print what each method needs and costs, and exit")
    parser.add_argument("--problem", required=True, help="name of a problem, for example clutrr")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--methods", type=names, default=all_methods(), help=f"default {','.join(all_methods())}")
    parser.add_argument("--config", type=Path, help="YAML run config; without it the problem's default one")
    parser.add_argument("--data", help="folder, file or hub name of real data; without it the embedded generator")
    parser.add_argument("--steps", type=int, default=400, help="outer steps of the first budget (default 400)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each training (default 3)")
    parser.add_argument("--inner-steps", type=numbers, default=[1, 3, 6], help="N to measure at (default 1,3,6)")
    parser.add_argument("--proximal", type=float, default=1.0, help="lambda for methods that need one (default 1)")
    parser.add_argument("--validate-every", type=int, default=50, help="outer steps between points of the curves")
    parser.add_argument("--workers", type=int, default=0, help="trainings at a time (default 0: one per core)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config values, for example inner.steps=4")
    return parser


def read_comparison(given: Any) -> Comparison:
    for method in given.methods:
        find_method(method)
    if EXACT not in given.methods:
        raise UserError(
            f"--methods {','.join(given.methods)} must have {EXACT}, which the others are measured against."
        )
    for option, least in (("steps", 1), ("seeds", 1), ("validate_every", 1), ("workers", 0)):
        if getattr(given, option) < least:
            raise UserError(f"--{option.replace('_', '-')} {getattr(given, option)} must be {least} or more.")
    if not given.proximal > 0:
        raise UserError(f"--proximal {given.proximal} must be above 0; give --proximal 1.")
    if not given.inner_steps or min(given.inner_steps) < 1:
        raise UserError(f"--inner-steps {given.inner_steps} must be numbers of 1 or more; give --inner-steps 1,3,6.")
    own: dict[str, dict[str, Any]] = {}
    rest = []
    for override in given.overrides:
        method, dot, option = override.partition("=")[0].partition(".")
        if dot and method in all_methods():
            own.setdefault(method, {})[option] = _value(override)
        else:
            rest.append(override)
    problem = find_problem(given.problem)
    rest += [f'data_path="{given.data}"'] if given.data else []
    base = load_config(problem.name, problem.data_config, given.config or problem.default_config, rest)
    comparison = Comparison(
        base=base,
        options=own,
        methods=sorted(dict.fromkeys(given.methods), key=all_methods().index),
        seeds=list(range(given.seeds)),
        steps=given.steps,
        inner_steps=sorted({*given.inner_steps, base.inner.steps}),
        proximal=given.proximal,
        validate_every=min(given.validate_every, given.steps),
        load_splits=problem.load_splits,
        build_levels=build_levels,
        prompts=problem.prompts_of(base),
    )
    for method in comparison.methods:
        for steps in comparison.inner_steps:
            comparison.config(method, 0, steps)  # refuses what cannot be before hours of work
    return comparison


def _value(override: str) -> Any:
    return yaml.safe_load(override.partition("=")[2])


def main() -> None:
    given = arguments().parse_intermixed_args()
    comparison = read_comparison(given)
    directory = stages.Directory(given.output)
    try:
        for folder in (given.output / "units", directory.points):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {given.output} cannot be made ({error.strerror}); name another folder.") from None
    if not stages.same_comparison(directory, comparison):
        raise UserError(
            f"--output {given.output} holds another comparison; name a new folder, or type that one's again."
        )
    workers = given.workers or len(os.sched_getaffinity(0))
    torch.set_num_threads(1)
    costs, exact = stages.costs(comparison), stages.exact_trainings(comparison, directory.points)
    gradients = stages.fidelities(comparison, directory.points)
    others = len(stages.other_trainings(comparison, 0.0))
    with tqdm(total=len(costs) + len(exact) + others + len(gradients), unit="part", desc="compare") as bar:

        def show(unit: stages.Unit) -> None:
            bar.set_postfix_str(unit.name, refresh=False)
            bar.update()

        def run(units: list[stages.Unit], at_once: int, fresh: bool = False) -> None:
            bar.update(sum(directory.unit(unit.name).exists() for unit in units))
            stages.run_units(directory, units, at_once, show, fresh)

        run(costs, 1, fresh=True)
        run(exact, workers)
        seconds = statistics.mean(directory.read(unit.name)["after_steps"]["seconds"] for unit in exact)
        run(stages.other_trainings(comparison, seconds), workers)
        run(gradients, workers)
    content = collect(directory, comparison)
    write_markdown(directory, content)
    draw(content, given.output / "plots")
    print((given.output / "comparison.md").read_text(encoding="utf-8"))
    print(f"Results and plots: {given.output}")


if __name__ == "__main__":
    run_command(main)
