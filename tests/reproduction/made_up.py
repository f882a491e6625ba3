"""An experiment and results that were never run, to check what is read off them."""

from reckoning_betty.reproduction.results import Results

SIZE = {
    "seeds": [0, 1],
    "base": {"problem": "clutrr", "inner": {"steps": 2}},
    "settings": {"short": {"data": {"hops": [2]}}, "long": {"data": {"hops": [3]}}},
    "arms": {"ours": {"method": "reckoning"}, "theirs": {"method": "in_context"}},
    "trials": {"ours": [{"inner": {"steps": 3}}, {"inner": {"steps": 4}}], "theirs": [{}, {"seed": 5}]},
    "trial": {"save_every": 7},
    "tuned_on": {"long": "short"},
    "hops": {},
}

ACCURACY = {("short", "ours"): (0.9, 1.0), ("short", "theirs"): (0.8, 0.8), ("long", "ours"): (0.6, 0.7)}
ACCURACY |= {("long", "theirs"): (0.7, 0.8)}


def made_up_row(setting: str, arm: str, seed: int, accuracy: float) -> dict:
    """A run with two questions of 2 hops, all right, and one of 4 that is right in a share of ``accuracy``."""
    return {
        "setting": setting,
        "arm": arm,
        "seed": seed,
        "label_accuracy": {"2": 1.0, "10": accuracy},
        "label_accuracy_by_answer": {"yes": {"n": 3, "label_accuracy": accuracy}, "no": {"n": 1, "label_accuracy": 0}},
        "knowledge_recall": {
            "2": {"n": 3, "exact": 1.0, "precision": 0.5, "recall": 1.0},
            "10": {"n": 1, "exact": 0.0, "precision": 0.1, "recall": 0.2},
        },
        "validation": accuracy,
        "steps": 10,
        "best_step": 10,
        "tasks": 40 + seed,
        "training_seconds": 1.5 + seed,
        "peak_memory_mib": 100.0,
        "commit": "abc",
        "run": "0123",
    }


def made_up_results() -> Results:
    """Two settings, two arms, two seeds."""
    rows = [
        made_up_row(setting, arm, seed, accuracy)
        for (setting, arm), values in ACCURACY.items()
        for seed, accuracy in enumerate(values)
    ]
    chosen = [
        {
            "setting": setting,
            "arm": arm,
            "values": tried[0],
            "trials": [{"values": values, "validation": 0.5} for values in tried],
        }
        for setting in ["short"]
        for arm, tried in SIZE["trials"].items()
    ]
    content = {"experiment": "made_up", "size": "small", "seeds": [0, 1], "config": SIZE, "rows": rows}
    return Results(content | {"chosen": chosen, "versions": {"torch": "2"}, "commit": "abc", "machine": {}})
