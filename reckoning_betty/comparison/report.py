"""``comparison.json`` and ``comparison.md`` from the units' results."""

import statistics
from typing import Any

from reckoning_betty.comparison.plan import EXACT, Comparison
from reckoning_betty.comparison.stages import Directory, chosen_points
from reckoning_betty.evaluation import overall
from reckoning_betty.training.run_directory import commit, versions, write_json

GRADIENT = ("cosine_weights", "relative_error_weights", "cosine_rates", "relative_error_rates")
BUDGETS = {"after_steps": "equal outer steps", "after_seconds": "equal time"}


def collect(directory: Directory, comparison: Comparison) -> dict[str, Any]:
    """All results, and writes them. ``rows`` has one row for each method, N and point of training."""
    rows, trainings, hops = [], [], _trained_hops(comparison)
    for method in comparison.methods:
        runs = [directory.read(f"training-{method}-{seed}") | {"seed": seed} for seed in comparison.seeds]
        trainings.append({"method": method, "runs": runs} | _summary(runs, hops))
        for steps in comparison.inner_steps:
            cost = directory.read(f"cost-{method}-{steps}")
            for point in chosen_points(comparison):
                exact = {name: float(name.startswith("cosine")) for name in GRADIENT}
                gradients = exact if method == EXACT else directory.read(f"fidelity-{method}-{steps}-{point}")
                row = {"method": method, "inner_steps": steps, "outer_step": point} | gradients | cost
                trained = steps == comparison.base.inner.steps
                rows.append(row | {"label_accuracy": trainings[-1]["after_steps"]["mean"] if trained else None})
    content = {
        "problem": comparison.base.problem,
        "steps": comparison.steps,
        "seeds": comparison.seeds,
        "inner_steps_trained": comparison.base.inner.steps,
        "trained_hops": hops,
        "rows": rows,
        "trainings": trainings,
        "settings": comparison.fingerprint(),
        "versions": versions(),
        "commit": commit(),
    }
    write_json(directory.result, content)
    return content


def _trained_hops(comparison: Comparison) -> list[str]:
    """Those of the validation questions that the test has too, as tables name them; all of the test's if none is."""
    splits = comparison.splits(comparison.seeds[0])
    trained, tested = ({task.questions[0].hops for task in tasks} for tasks in (splits.validation, splits.test))
    return [str(hops) for hops in sorted(trained & tested or tested)]


def _summary(runs: list[dict[str, Any]], trained_hops: list[str]) -> dict[str, Any]:
    """Mean and spread over seeds of the accuracy on trained hops at both budgets, and the means by hops."""
    summary = {}
    for budget in BUDGETS:
        tables = [run[budget]["table"] for run in runs]
        values = [overall({hop: table[hop] for hop in trained_hops}) for table in tables]
        summary[budget] = {
            "mean": statistics.mean(values),
            "spread": statistics.stdev(values) if len(values) > 1 else 0.0,
            "step": statistics.mean(run[budget]["step"] for run in runs),
            "seconds": statistics.mean(run[budget]["seconds"] for run in runs),
            "by_hops": {hop: statistics.mean(table[hop]["label_accuracy"] for table in tables) for hop in tables[0]},
        }
    return summary


def write_markdown(directory: Directory, content: dict[str, Any]) -> None:
    """Two tables: what is learned, and what a gradient is and costs."""
    text = "\n\n".join([_accuracy_table(content), _gradient_table(content)])
    (directory.root / "comparison.md").write_text(text + "\n", encoding="utf-8")


def _accuracy_table(content: dict[str, Any]) -> str:
    steps, seeds = content["steps"], len(content["seeds"])
    hops, trained = list(content["trainings"][0]["after_steps"]["by_hops"]), content["trained_hops"]
    head = ["method", f"{steps} outer steps", "seconds", "equal time", "outer steps", *(f"{hop} hops" for hop in hops)]
    lines = [
        f"Test label accuracy in %, mean ± standard deviation of {seeds} seeds, on the hops of training "
        f"({', '.join(trained)}); then by hops after {steps} outer steps."
    ]
    lines += ["", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for training in content["trainings"]:
        first, second = (training[budget] for budget in BUDGETS)
        diverged = sum(bool(run["diverged"]) for run in training["runs"])
        cells = [training["method"] + (f" ({diverged} of {seeds} diverged)" if diverged else "")]
        short = "" if first["step"] == steps else f" (stopped at {first['step']:.0f})"
        cells += [f"{100 * first['mean']:.1f} ± {100 * first['spread']:.1f}{short}", f"{first['seconds']:.0f}"]
        cells += [f"{100 * second['mean']:.1f} ± {100 * second['spread']:.1f}", f"{second['step']:.0f}"]
        cells += [f"{100 * first['by_hops'][hop]:.1f}" for hop in hops]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gradient_table(content: dict[str, Any]) -> str:
    head = ["method", "N", "after outer step", "cosine, weights", "error, weights", "cosine, rates", "error, rates"]
    head += ["ms per outer step", "MiB above start"]
    lines = ["The hypergradient against the exact one (float64), and what an outer step takes (one thread)."]
    lines += ["", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in content["rows"]:
        cells = [row["method"], str(row["inner_steps"]), str(row["outer_step"])]
        for part in ("weights", "rates"):
            cosine, error = row[f"cosine_{part}"], row[f"relative_error_{part}"]
            cells += ["no gradient", ""] if cosine is None else [f"{cosine:.3f}", f"{error:.2g}"]
        cells += [f"{1000 * row['seconds_per_step']:.0f}", f"{row['memory_above_start_mib']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
