"""Results as Markdown."""

from collections.abc import Sequence
from statistics import fmean

from reckoning_betty.reproduction.claims import check
from reckoning_betty.reproduction.experiment import NONE, Experiment, Measure, without_budget
from reckoning_betty.reproduction.results import Results, spread

NUMBER = "{:.1f}"

CLASSES = 4
"""Different answers up to which a setting has its accuracy by answer in a table."""


def markdown(experiment: Experiment, results: Results) -> str:
    """The heading, the table beside the paper's numbers, the claims with their verdicts, the trials and the costs."""
    if not results.content["rows"]:
        return f"## {experiment.title}\n\nNo run is done yet, only trials.\n\n{_trials(results)}\n"
    parts = [
        f"## {experiment.title}",
        experiment.source.strip(),
        f"**Not finished: {results.missing} runs are still to be done.**" if results.missing else "",
        _accuracy(experiment, results),
        _by_answer(experiment, results),
        _claims(experiment, results),
        experiment.reading.strip(),
        _trials(results),
        _costs(results),
        _origin(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _accuracy(experiment: Experiment, results: Results) -> str:
    measure = experiment.measure
    tests = sorted({hops for setting in results.settings for hops in results.hops(setting)})
    by_hops = len(tests) > 1 and measure == "label_accuracy"
    head = ["setting", "arm", "all", *(map(str, tests) if by_hops else ())]
    more = ("precision", "recall") if measure == "exact" else ()
    head += more
    if experiment.paper:
        head += ["paper", "difference"]
    rows = []
    for setting in results.settings:
        for arm in results.arms:
            if not results.rows(setting, arm):
                continue
            row = [setting, arm, _cell(results.values(setting, arm, measure))]
            for hops in tests if by_hops else ():
                has = hops in results.hops(setting)
                row.append(_cell(results.values(setting, arm, measure, [hops])) if has else "")
            row += [_cell(results.values(setting, arm, measure)) for measure in more]
            if experiment.paper:
                row += _beside(experiment.paper.get(arm, {}).get(setting), results, setting, arm, measure)
            rows.append(row)
    said = {"label_accuracy": "Label accuracy", "exact": "Relevant facts recalled exactly, as sets"}.get(
        measure, measure
    )
    seeds = len(results.content["seeds"])
    by = ", all and by hops," if by_hops else ""
    over = f"mean and standard deviation over {seeds} seeds{', as far as they are done' if results.missing else ''}"
    counted = by_hops and results.content["config"]["hops"]
    trained = ' "All" are the hops of training where longer ones are tested too.' if counted else ""
    return f"{said} on test{by} in %, {over}.{trained}\n\n{table(head, rows)}"


def _beside(
    known: float | dict[int, float] | None, results: Results, setting: str, arm: str, measure: Measure
) -> list[str]:
    """The paper's number and ours minus it; where it has some numbers of hops alone, with them in brackets."""
    if known is None:
        return ["", ""]
    differences = differences_from(known, results, setting, arm, measure)
    if not isinstance(known, dict):
        return [NUMBER.format(known), f"{differences[None]:+.1f}"]
    told = [f"{NUMBER.format(value)} ({hops})" for hops, value in known.items()]
    return [", ".join(told), ", ".join(f"{difference:+.1f} ({hops})" for hops, difference in differences.items())]


def differences_from(
    known: float | dict[int, float], results: Results, setting: str, arm: str, measure: Measure
) -> dict[int | None, float]:
    """Ours minus the paper's by its hops, or by None where its number is over all."""
    if not isinstance(known, dict):
        return {None: results.mean(setting, arm, measure) - known}
    return {hops: results.mean(setting, arm, measure, [hops]) - value for hops, value in known.items()}


def _by_answer(experiment: Experiment, results: Results) -> str:
    if experiment.measure != "label_accuracy":
        return ""
    few = {setting: answers for setting in results.settings if len(answers := results.answers(setting)) <= CLASSES}
    different = sorted({answer for answers in few.values() for answer in answers})
    rows = [
        [
            setting,
            arm,
            *(_cell(results.of_answer(setting, arm, answer)) if answer in few[setting] else "" for answer in different),
        ]
        for setting in few
        for arm in results.arms
        if results.rows(setting, arm)
    ]
    return f"By answer:\n\n{table(['setting', 'arm', *different], rows)}" if rows else ""


def _claims(experiment: Experiment, results: Results) -> str:
    said = {None: "not run yet", True: "yes", False: "**no**"}
    verdicts = [check(claim, results) for claim in experiment.claims]
    rows = [[verdict.claim.says, verdict.told, said[verdict.holds]] for verdict in verdicts]
    return table(["asked", "found", "holds"], rows) if rows else ""


def _trials(results: Results) -> str:
    rows, config = [], results.content["config"]
    by_recall = any("validation_recall" in trial for trial in results.trials)
    measured = {"validation": "label accuracy"} | ({"validation_recall": "exact recall"} if by_recall else {})
    for chosen in results.content["chosen"]:
        for trial in chosen["trials"]:
            mark = "chosen" if without_budget(trial["values"]) == chosen["values"] else ""
            told = ", ".join(f"{key}={value}" for key, value in _flat(trial["values"]))
            found = ["diverged" if "diverged" in trial else NUMBER.format(100 * trial[name]) for name in measured]
            rows.append([chosen["setting"], chosen["arm"], told, *found, mark])
    if not rows:
        return ""
    text = table(["setting", "arm", "tried", *measured.values(), ""], rows)
    elsewhere = config["tuned_on"] | {arm: other for arm, other in config.get("tuned_as", {}).items() if other != NONE}
    taken = "; ".join(f"{name} takes {other}'s choice" for name, other in elsewhere.items())
    told = f" ({taken})" if taken else ""
    best = " and ".join(measured.values()) + (", in the mean" if by_recall else "")
    return f"Trials with a seed of their own, chosen on validation by {best}{told}:\n\n{text}"


def _costs(results: Results) -> str:
    rows = []
    for setting in results.settings:
        for arm in results.arms:
            if mine := results.rows(setting, arm):
                seconds = [row["training_seconds"] for row in mine]
                between = f" ({min(seconds):.0f} to {max(seconds):.0f})" if len(mine) > 1 else ""
                told = f"{fmean(seconds):.0f}{between}", f"{mine[0]['tasks']:,}"
                rows.append([setting, arm, *told, f"{max(row['peak_memory_mib'] for row in mine):.0f}"])
    return table(["setting", "arm", "seconds of training", "tasks seen", "MiB"], rows)


def _origin(results: Results) -> str:
    content = results.content
    commits = sorted({str(told["commit"]) for told in [*content["rows"], *results.trials] if "commit" in told})
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    seeds = ", ".join(map(str, content["seeds"]))
    return f"Size {content['size']}; seeds {seeds}; commits {', '.join(commits)}; {versions}."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _cell(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    return NUMBER.format(mean) + (f" ± {spread(values):.1f}" if len(values) > 1 else "")


def _flat(values: dict, prefix: str = "") -> list[tuple[str, object]]:
    pairs = []
    for key, value in values.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return pairs
