"""Experiments are read from YAML, with every shipped one as it should be."""

import pytest
import yaml
from made_up import SIZE

from problems import find_problem
from reckoning_betty.config_io import load_values
from reckoning_betty.errors import UserError
from reckoning_betty.reproduction.experiment import Size, experiment_names, load_experiment
from reckoning_betty.reproduction.page import make_page

EXPERIMENT = {"title": "T", "source": "S", "figure": "hops", "sizes": {"small": SIZE}}
CLAIM = {"says": "x", "kind": "margin", "arm": "ours", "against": "theirs", "points": 1}


def loaded(tmp_path, **changes):
    (tmp_path / "made.yaml").write_text(yaml.safe_dump(EXPERIMENT | changes, sort_keys=False))
    return load_experiment(tmp_path, "made")


def test_layers_are_laid_over_each_other(tmp_path):
    size = loaded(tmp_path).size("small")
    assert size.values("long", "theirs", {"data": {"noise": "none"}}, {"inner": {"steps": 5}}) == {
        "problem": "clutrr",
        "inner": {"steps": 5},
        "data": {"hops": [3], "noise": "none"},
        "method": "in_context",
    }
    assert size.values("short", "ours")["inner"] == {"steps": 2}


def test_tasks_stand_for_as_many_steps_as_they_take(tmp_path):
    size = loaded(tmp_path).size("small")

    def steps(**section):
        return size.values("long", "theirs", {"in_context": section})["in_context"]

    assert steps(tasks=960, tasks_per_step=32) == {"tasks_per_step": 32, "steps": 30}
    assert steps(tasks=960) == {"steps": 60}  # 16 is the default
    assert size.values("long", "ours", {"data": {"tasks": [1]}})["data"]["tasks"] == [1]  # bAbI's


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"titel": "x"}, r"made\.yaml: unknown key 'titel'; known are .*title"),
        ({"sizes": {"small": SIZE | {"sedes": []}}}, r"made\.yaml: small: unknown key 'sedes'"),
        ({"sizes": {"small": {"seeds": [0]}}}, r"made\.yaml: small: .*missing .*'base'"),
        ({"claims": [{"says": "x", "kinds": "margin"}]}, r"a claim: unknown key 'kinds'"),
        (
            {"sizes": {"small": SIZE | {"trials": {"ours": [{}], "theirs": []}}}},
            r"every arm has as many trials as the others, but there are ours 1, theirs 0",
        ),
        (
            {"sizes": {"small": SIZE | {"trials": {"his": []}}}},
            r"trials or tuned_as has 'his', but it must be of ours",
        ),
        (
            {"sizes": {"small": SIZE | {"tuned_on": {"long": "far"}}}},
            r"tuned_on has 'far', but it must be of short, long",
        ),
        (
            {"sizes": {"small": SIZE | {"own_trials": {"long": {"ours": [{}], "theirs": []}}}}},
            r"every arm has as many trials as the others, but there are ours 1, theirs 0",
        ),
        (
            {"sizes": {"small": SIZE | {"own_trials": {"far": {}}}}},
            r"own_trials has 'far', but it must be of short, long",
        ),
        ({"sizes": {"small": SIZE | {"hops": {"far": [2]}}}}, r"hops has 'far', but it must be of short, long"),
        ({"figure": "hop"}, r"figure has 'hop', but it must be of hops, settings, sets, runtime"),
        ({"claims": [CLAIM | {"kind": "margins"}]}, r"a claim: kind has 'margins', but it must be of margin, never_b"),
        ({"claims": [CLAIM | {"arm": "his"}]}, r"a claim: arm or against has 'his', but it must be of ours, theirs"),
        ({"claims": [CLAIM | {"settings": ["far"]}]}, r"a claim: settings has 'far', but it must be of short, long"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused(changes, says, tmp_path):
    with pytest.raises(UserError, match=says):
        loaded(tmp_path, **changes)


@pytest.mark.parametrize(("text", "says"), [("title: [", "is not YAML"), ("- a", "must hold 'key: value' lines")])
def test_a_file_that_holds_no_keys_is_refused(text, says, tmp_path):
    (tmp_path / "made.yaml").write_text(text)
    with pytest.raises(UserError, match=says):
        load_experiment(tmp_path, "made")


def test_a_size_may_be_another_experiments(tmp_path):
    other, own = loaded(tmp_path, sizes={"small": SIZE, "paper": SIZE | {"seeds": [7]}}), SIZE | {"seeds": [8]}
    (tmp_path / "half.yaml").write_text(yaml.safe_dump(EXPERIMENT | {"sizes": {"small": own, "paper": "made"}}))
    half = load_experiment(tmp_path, "half")
    assert half.size("small").seeds == [8]
    assert half.size("paper") == other.size("paper") != half.size("small")
    with pytest.raises(UserError, match=r"made\.yaml: sizes has no values for huge"):
        loaded(tmp_path, sizes={"small": SIZE, "huge": "made"})


def test_unknown_experiments_and_sizes_are_refused(tmp_path):
    made = loaded(tmp_path)
    with pytest.raises(UserError, match=r"no experiment 'other': take one of made"):
        load_experiment(tmp_path, "other")
    with pytest.raises(UserError, match=r"--size huge: made has small"):
        made.size("huge")


def shipped(root):
    folder = root / "engine_configs" / "reproduce"
    return [load_experiment(folder, name) for name in experiment_names(folder)]


def test_every_shipped_run_has_a_config(request):
    root = request.config.rootpath
    assert shipped(root)
    for experiment in shipped(root):
        for size in experiment.sizes.values() if experiment.is_timed else ():
            assert find_problem(size.problem).data_config(**size.data)
        for size in () if experiment.is_timed else experiment.sizes.values():
            assert_resolves(size)


def test_the_page_says_what_the_results_say(request):
    folder = request.config.rootpath / "engine_configs" / "reproduce"
    assert (folder / "RESULTS.md").read_text(encoding="utf-8") == make_page(folder)


def assert_resolves(size: Size) -> None:
    for setting in size.settings:
        for arm in size.arms:
            for trial in [{}, *size.trials_of(setting).get(arm, [])]:
                values = size.values(setting, arm, trial)
                problem = find_problem(values["problem"])
                load_values(problem.name, problem.data_config, values, "a test")
