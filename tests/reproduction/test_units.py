"""Units are shared, resumed, stopped and refused; their order is trials, then all arms of a seed."""

import json
import sys
from dataclasses import make_dataclass, replace

import pytest
import yaml
from made_up import SIZE

from problems import find_problem
from problems.clutrr import ClutrrConfig
from reckoning_betty.config_io import load_values
from reckoning_betty.errors import UserError
from reckoning_betty.reproduction import running
from reckoning_betty.reproduction.experiment import Experiment, Size
from reckoning_betty.reproduction.plan import TRIAL_SEED, Plan
from reckoning_betty.reproduction.results import Results, collect, known_outcomes, save_what_is_new
from reckoning_betty.reproduction.running import Trainer, run_units
from reckoning_betty.reproduction.tables import markdown
from reckoning_betty.reproduction.units import Unit
from reckoning_betty.training.run_directory import write_json

TRAIN = """
import json, pathlib, sys, yaml
given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
run = pathlib.Path(given["--output"])
with (run.parents[1] / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + chr(10))
if "--resume" in sys.argv:
    config = yaml.safe_load((run / "config.yaml").read_text())
else:
    config = yaml.safe_load(pathlib.Path(given["--config"]).read_text())
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
if config["inner"]["steps"] == 9:
    print("error: nine is too many", file=sys.stderr)
    sys.exit(2)
if config["inner"]["steps"] == 8:
    print("error: L_CLM is not finite", file=sys.stderr)
    sys.exit(3)
accuracy = {"validation": {"2": config["inner"]["steps"] / 10}, "test": {"2": 0.5}}
method = config["method"]
times = {"steps": 10, "best_step": 5, "training_seconds": 1.5, "peak_memory_mib": [9.0]}
told = {"label_accuracy_by_answer": {"test": {}}} | times
if config.get("evaluation", {}).get("max_recall_tokens"):
    exact = {"2": {"exact": 1 - config["inner"]["steps"] / 5}}
    told["knowledge_recall"] = {"validation": exact, "test": {"2": {"exact": 0.25}}}
summary = {"method": method, "label_accuracy": {method: accuracy}, "methods": {method: told}, "commit": "abc"}
(run / "summary.json").write_text(json.dumps(summary))
"""
"""Instead of the training: leaves what a training leaves.

Its validation accuracy is a tenth of its inner steps, its exact recall falls twice as fast.
"""


def resolve(values):
    return load_values("clutrr", find_problem("clutrr").data_config, values, "a test")


def unit(root, **values):
    return Unit(resolve({"problem": "clutrr"} | values), root)


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "LOOK_EVERY", 0.05)
    (tmp_path / "train.py").write_text(TRAIN)
    return Trainer([sys.executable, str(tmp_path / "train.py")], tmp_path)


def calls(root):
    return (root / "calls").read_text().splitlines() if (root / "calls").exists() else []


def test_equal_configs_are_one_unit(tmp_path):
    assert unit(tmp_path, seed=1).identity == unit(tmp_path, seed=1, inner={"steps": 4}).identity  # 4 is the default
    assert unit(tmp_path, seed=1).identity != unit(tmp_path, seed=2).identity
    truncated = unit(tmp_path, hypergradient="truncated")
    assert truncated.identity != unit(tmp_path).identity
    assert (
        truncated.identity
        != unit(tmp_path, hypergradient="truncated", hypergradient_options={"last_steps": 2}).identity
    )


def test_a_new_option_leaves_old_runs_their_names(tmp_path):
    before = unit(tmp_path, data={"num_names": 30}, inner={"steps": 5}).identity
    wider = make_dataclass("Wider", [("new", int, 0)], bases=(ClutrrConfig,), frozen=True, kw_only=True)

    def named(**data):
        values = {"problem": "clutrr", "data": {"num_names": 30} | data, "inner": {"steps": 5}}
        return Unit(load_values("clutrr", wider, values, "a test"), tmp_path).identity

    assert named() == before
    assert named(new=1) != before


def test_the_budget_of_another_method_leaves_a_run_its_name(tmp_path):
    def named(**values):
        return unit(tmp_path, **values).identity

    other = {"reckoning": {"learning_rate": 0.1, "steps": 7}}
    assert named(method="in_context", **other) == named(method="in_context")
    for trained_by_it in ({}, {"method": "random_facts"}, {"method": "in_context", "baselines": ["reckoning"]}):
        assert named(**trained_by_it, **other) != named(**trained_by_it)


def test_each_is_run_once(tmp_path, train):
    both = [unit(tmp_path / "runs", seed=seed) for seed in (0, 1, 0)]
    run_units(both, train, "test", lambda: None)
    assert len(calls(tmp_path / "runs")) == 2
    assert all(one.is_done for one in both)
    run_units(both, train, "test", lambda: None)
    assert len(calls(tmp_path / "runs")) == 2


def test_what_was_begun_goes_on(tmp_path, train):
    one = unit(tmp_path / "runs")
    one.run.root.mkdir(parents=True)
    one.run.config.write_text(yaml.safe_dump({"method": "reckoning", "inner": {"steps": 4}}))
    run_units([one], train, "test", lambda: None)
    assert calls(tmp_path / "runs")[0].endswith("--resume")
    assert one.is_done


def test_progress_counts_the_steps_of_what_runs(tmp_path):
    one = unit(tmp_path / "runs", reckoning={"steps": 40})
    assert one.share_done == 0
    one.run.root.mkdir(parents=True)
    one.run.metrics.write_text("".join(json.dumps({"method": "reckoning", "step": s}) + "\n" for s in (10, 30)))
    assert one.share_done == 0.75


def test_a_run_that_fails_is_told_and_others_are_kept(tmp_path, train):
    good, bad = unit(tmp_path / "runs"), unit(tmp_path / "runs", inner={"steps": 9})
    with pytest.raises(UserError, match=r"with code 2 and said: error: nine is too many \(all of it: .*log\.txt\)"):
        run_units([good, bad], train, "test", lambda: None)
    assert good.is_done


def test_a_run_has_one_command_at_a_time(tmp_path, train):
    """The first command is killed and leaves its run behind; a second one must not train in the same folder."""
    one = unit(tmp_path / "runs")
    left = replace(train, command=[sys.executable, "-c", "import time; time.sleep(60)"]).start(one)
    try:
        with pytest.raises(UserError, match=f"{one.identity} is being trained by another command"):
            run_units([one], train, "test", lambda: None)
    finally:
        left.kill()
        left.wait()
    run_units([one], train, "test", lambda: None)
    assert one.is_done


def test_trials_choose_on_validation_and_runs_take_what_they_chose(tmp_path, train):
    more = {"third": {"method": "random_facts"}, "fourth": {"method": "no_facts"}}
    arms = {"arms": SIZE["arms"] | more, "tuned_as": {"third": "ours", "fourth": "none"}}
    plan = Plan(size=Size(**SIZE | arms), resolve=resolve, root=tmp_path / "runs")
    trials = plan.trials()
    assert {one.config.seed for one in trials} == {TRIAL_SEED}
    assert {one.config.save_every for one in trials} == {7}
    assert {tuple(one.config.data.hops) for one in trials} == {(2,)}
    run_units(trials, train, "test", lambda: None)
    assert plan.chosen("long", "ours") == {"inner": {"steps": 4}}
    assert [trial["validation"] for trial in plan.tried("long", "ours")] == [0.3, 0.4]
    assert plan.chosen("long", "third") == {"inner": {"steps": 4}}
    assert (plan.chosen("long", "fourth"), plan.tried("long", "fourth")) == ({}, [])
    assert [one.config.inner.steps for _, arm, _, one in plan.runs() if arm == "third"] == [4] * 4
    plan = replace(plan, size=Size(**SIZE))
    runs = list(plan.runs())
    assert [(setting, arm, seed) for setting, arm, seed, _ in runs] == [
        (setting, arm, seed) for seed in (0, 1) for setting in ("short", "long") for arm in ("ours", "theirs")
    ]
    assert [one.config.inner.steps for _, arm, _, one in runs if arm == "ours"] == [4] * 4
    assert [one.config.seed for *_, one in runs] == [0] * 4 + [1] * 4
    assert {one.config.save_every for *_, one in runs} == {50}


def test_a_setting_may_have_trials_of_its_own_each_with_its_tasks(tmp_path, train):
    """As where steps of different sizes are tried for the same time."""
    own = {
        "ours": [
            {"inner": {"steps": 5}, "reckoning": {"tasks": 64, "tasks_per_step": 2}},
            {"inner": {"steps": 6}, "reckoning": {"tasks_per_step": 8}},
        ],
        "theirs": [{}, {"seed": 6}],
    }
    size = SIZE | {"tuned_on": {}, "trial": {"reckoning": {"tasks": 160}}, "own_trials": {"long": own}}
    size["settings"] = {
        "short": SIZE["settings"]["short"],
        "long": {"data": {"hops": [3]}, "reckoning": {"tasks": 800}},
    }
    plan = Plan(size=Size(**size), resolve=resolve, root=tmp_path / "runs")
    trials = [one.config for one in plan.trials() if one.config.method == "reckoning"]
    assert [(config.data.hops, config.inner.steps, config.reckoning.steps) for config in trials] == [
        ((2,), 3, 10),
        ((2,), 4, 10),
        ((3,), 5, 32),
        ((3,), 6, 20),
    ]
    run_units(plan.trials(), train, "test", lambda: None)
    assert plan.chosen("short", "ours") == {"inner": {"steps": 4}}
    assert plan.chosen("long", "ours") == {"inner": {"steps": 6}, "reckoning": {"tasks_per_step": 8}}
    steps = {one.config.reckoning.steps for setting, arm, _, one in plan.runs() if (setting, arm) == ("long", "ours")}
    assert steps == {100}
    shorter = own | {"ours": [own["ours"][0]] * 2}
    plan = replace(plan, size=Size(**size | {"own_trials": {"long": shorter}}))
    assert plan.chosen("long", "ours") == {"inner": {"steps": 5}, "reckoning": {"tasks_per_step": 2}}
    steps = {one.config.reckoning.steps for setting, arm, _, one in plan.runs() if (setting, arm) == ("long", "ours")}
    assert steps == {400}
    experiment = Experiment(name="made_up", title="", source="", figure="hops", sizes={})
    told = markdown(experiment, Results(collect(experiment, "small", plan)))
    assert "| long | ours | inner.steps=5, reckoning.tasks=64, reckoning.tasks_per_step=2 | 50.0 | chosen |" in told


def test_trials_of_runs_that_choose_by_recall_are_chosen_by_it_too(tmp_path, train):
    """The second has the better labels, 40 against 30, and the worse recall."""

    def tried(**evaluation):
        recalling = SIZE["base"] | {"evaluation": {"max_recall_tokens": 5} | evaluation}
        plan = Plan(size=Size(**SIZE | {"base": recalling}), resolve=resolve, root=tmp_path / "runs")
        run_units(plan.trials(), train, "test", lambda: None)
        assert [trial["validation"] for trial in plan.tried("long", "ours")] == [0.3, 0.4]
        assert [trial["knowledge_recall"] for trial in plan.tried("long", "ours")] == [{"2": {"exact": 0.25}}] * 2
        return plan, plan.tried("long", "ours")

    plan, trials = tried(choose_by_recall=True)
    assert [trial["validation_recall"] for trial in trials] == pytest.approx([0.4, 0.2])
    assert plan.chosen("long", "ours") == {"inner": {"steps": 3}}
    plan, trials = tried()
    assert all("validation_recall" not in trial for trial in trials)
    assert plan.chosen("long", "ours") == {"inner": {"steps": 4}}


def test_a_trial_that_diverges_is_not_chosen_and_not_run_again(tmp_path, train):
    trials = SIZE["trials"] | {"ours": [{"inner": {"steps": 8}}, {"inner": {"steps": 3}}]}
    plan = Plan(size=Size(**SIZE | {"trials": trials}), resolve=resolve, root=tmp_path / "runs")
    for _ in range(2):
        run_units(plan.trials(), train, "test", lambda: None, may_diverge=True)
        assert len(calls(tmp_path / "runs")) == 3  # the trials of one arm are equal, but for the seed
    assert plan.is_chosen
    diverged, good = plan.tried("long", "ours")
    assert (diverged["diverged"], diverged["validation"], good["validation"]) == ("L_CLM is not finite", 0, 0.3)
    assert plan.chosen("long", "ours") == {"inner": {"steps": 3}}
    with pytest.raises(UserError, match=r"with code 3 and said: error: L_CLM is not finite"):
        run_units([unit(tmp_path / "others", inner={"steps": 8})], train, "test", lambda: None)


def test_runs_outlive_a_new_trial_in_the_results(tmp_path, train):
    """They have no place while it is missing; and are back when it is done, their folders gone."""
    file = tmp_path / "results" / "made_up_small.json"
    experiment = Experiment(name="made_up", title="", source="", figure="hops", sizes={})
    size = SIZE | {"trials": {"ours": [{}, {"inner": {"steps": 5}}], "theirs": [{}, {"seed": 5}]}}
    plan = Plan(size=Size(**size), resolve=resolve, root=tmp_path / "runs")
    run_units(plan.trials(), train, "test", lambda: None)
    run_units([one for *_, one in plan.runs()][:3], train, "test", lambda: None)
    save_what_is_new(collect(experiment, "small", plan), file)
    rows = json.loads(file.read_text())["rows"]

    more = size | {"trials": {arm: [*tried, {"inner": {"steps": 1}}] for arm, tried in size["trials"].items()}}
    moved = Plan(size=Size(**more), resolve=resolve, root=tmp_path / "new", known=known_outcomes(file.parent))
    seen = []

    def keep():
        save_what_is_new(collect(experiment, "small", moved), file)
        told = json.loads(file.read_text())
        seen.append((len(told["rows"]), len(told.get("spare", ()))))

    run_units(moved.trials(), train, "test", keep)
    assert seen == [(0, 3), (3, 0)]
    assert json.loads(file.read_text())["rows"] == rows
    assert len(rows) == 3


def test_what_results_know_is_not_run_again(tmp_path, train):
    """On another machine, where the runs' folders are gone, an experiment goes on from its results file."""
    plan = Plan(size=Size(**SIZE), resolve=resolve, root=tmp_path / "runs")
    experiment = Experiment(name="made_up", title="", source="", figure="hops", sizes={})
    collected = []
    run_units(plan.trials(), train, "test", lambda: collected.append(collect(experiment, "small", plan)))
    assert [len(content["rows"]) for content in collected] == [0] * 3
    assert [sum(len(chosen["trials"]) for chosen in content["chosen"]) for content in collected] == [1, 2, 4]
    runs = [one for *_, one in plan.runs()]
    run_units(runs[:3], train, "test", lambda: None)
    (tmp_path / "results").mkdir()
    write_json(tmp_path / "results" / "made_up_small.json", collect(experiment, "small", plan))

    moved = replace(plan, root=tmp_path / "elsewhere", known=known_outcomes(tmp_path / "results"))
    assert moved.is_chosen
    again = [one for *_, one in moved.runs()]
    assert [one.is_done for one in again] == [True] * 3 + [False] * 5
    assert [one.outcome() for one in again[:3]] == [one.outcome() for one in runs[:3]]
    run_units([*moved.trials(), *again], train, "test", lambda: None)
    assert len(calls(tmp_path / "elsewhere")) == 5
    assert collect(experiment, "small", moved)["rows"][:3] == collect(experiment, "small", plan)["rows"][:3]
