from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reckoning_betty.config import RunConfig
from reckoning_betty.config_io import config_keys, load_config, load_data_config, save_config
from reckoning_betty.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    hops: tuple[int, ...] = (2, 3)
    noise: str = "none"


def load(*overrides, file=None):
    return load_config("toy", Data, file, overrides)


def written(tmp_path, text):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    return file


def test_defaults_then_file_then_overrides(tmp_path):
    file = written(tmp_path, "inner: {steps: 6, initial_rate: 0.5}\nreckoning:\n  learning_rate: 5e-5\n")
    config = load("inner.steps=7", "data.hops=[4]", file=file)
    assert (config.inner.steps, config.inner.initial_rate, config.reckoning.learning_rate) == (7, 0.5, 5e-5)
    assert config.data == Data(hops=(4,))
    assert config.in_context == RunConfig(problem="toy").in_context


def test_scientific_notation_is_a_number_and_no_is_not_a_number():
    assert load("reckoning.learning_rate=5e-5").reckoning.learning_rate == 5e-5  # plain PyYAML reads a string
    with pytest.raises(UserError, match="seed"):
        load("seed=no")  # plain PyYAML reads False, which is an int


def test_a_saved_config_loads_as_the_same(tmp_path):
    config = load("baselines=[in_context]", "data.noise=supporting", "inner.rates=per_tensor")
    save_config(config, tmp_path / "config.yaml")
    assert load(file=tmp_path / "config.yaml") == config


def test_methods_are_the_method_then_its_baselines():
    config = load("baselines=[in_context,no_facts]")
    assert config.methods == ["reckoning", "in_context", "no_facts"]
    assert config.training("no_facts") is config.no_facts


def test_the_single_task_objective_has_no_second_term():
    config = load("knowledge_weight=0.3")
    assert config.effective_knowledge_weight == 0.3
    assert replace(config, objective="single").effective_knowledge_weight == 0.0


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("inner.step=6", r"unknown key 'inner\.step'; did you mean 'inner\.steps'\?"),
        ("data.nois=x", r"did you mean 'data\.noise'"),
        ("xyzzy=1", r"unknown key 'xyzzy'; known are problem, seed"),
        ("inner.steps=six", r"inner\.steps.*'six'"),
        ("inner.steps=1.5", r"inner\.steps.*1\.5"),
        ("inner=3", r"'inner' is a section with the keys steps"),
        ("inner.rates=each", r"expected one of.*per_step_per_layer"),
        ("inner.steps=0", r"inner\.steps=0 is not possible"),
        ("inner.facts_per_pass=-1", r"inner\.facts_per_pass=-1 is not possible: it cannot be negative"),
        ("inner.reduction=max", r"inner\.reduction.*expected one of.*mean"),
        ("evaluation.choose_by_recall=true", "without evaluation.max_recall_tokens nothing is recalled"),
        ("model.precision=float16", r"expected one of.*bfloat16"),
        ("inner.initial_rate=-1", "inner rates are positive"),
        ("reckoning.learning_rate=nan", "it must be positive"),
        ("reckoning.steps=0", "it must be at least 1"),
        ("model.attention=sdpa", r"use model\.attention=eager"),
        ("model.width=30", "a multiple of model.heads=4"),
        ("baselines=[other]", "out of reckoning, in_context, no_facts"),
        ("baselines=[reckoning]", "each method is trained once"),
        ("data.hops=[a]", r"data\.hops"),
        ("inner.steps", "is not an override: type key=value"),
        ("=3", "is not an override"),
        ("inner.steps=[1", "the value is not YAML"),
        ("problem=other", "use --problem other"),
    ],
)
def test_one_sentence_for_a_wrong_override(override, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        load(override)
    assert "\n" not in str(error.value)


def test_an_override_twice_is_refused():
    with pytest.raises(UserError, match=r"'inner\.steps' is given twice"):
        load("inner.steps=6", "inner.steps=7")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n- b\n", "must hold 'key: value' lines at the top"),
        ("inner: {steps: 1\n", "is not YAML"),
        ("inner:\n  stepps: 3\n", r"did you mean 'inner\.steps'"),
    ],
)
def test_one_sentence_for_a_wrong_file(tmp_path, text, sentence):
    file = written(tmp_path, text)
    with pytest.raises(UserError, match=sentence) as error:
        load(file=file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused():
    with pytest.raises(UserError, match=r"nowhere\.yaml does not exist"):
        load(file=Path("nowhere.yaml"))


def test_data_options_alone():
    assert load_data_config(Data, {"hops": [5]}, ["noise=irrelevant"]) == Data(hops=(5,), noise="irrelevant")
    with pytest.raises(UserError, match="did you mean 'noise'"):
        load_data_config(Data, {}, ["nois=x"])


def test_keys_are_listed_with_dots():
    keys = list(config_keys(load()))
    assert {"seed", "inner.steps", "data.hops", "no_facts.clip_norm"} <= set(keys)
    assert len(keys) == len(set(keys))
