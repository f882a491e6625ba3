"""The methods' options, and what cannot be combined."""

from dataclasses import dataclass, fields

import pytest

from reckoning_betty.config import InnerConfig, RunConfig
from reckoning_betty.config_io import load_config, save_config
from reckoning_betty.errors import UserError
from reckoning_betty.hypergradients.neumann import Neumann
from reckoning_betty.hypergradients.registry import METHODS, find_method
from reckoning_betty.hypergradients.truncated import Truncated


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    hops: int = 2


def load(*overrides, file=None):
    return load_config("toy", Data, file, overrides)


def test_options_belong_to_the_method():
    config = load("hypergradient=neumann", "hypergradient_options.iterations=9", "inner.proximal=1")
    assert config.hypergradient_method == Neumann(iterations=9)
    assert load().hypergradient_method == METHODS["unrolled"]()


def test_the_last_name_counts(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("hypergradient: cg\ninner: {proximal: 1}\n")
    assert load(file=file).hypergradient_method.name == "cg"
    assert load("hypergradient=truncated", "hypergradient_options.last_steps=2", file=file).hypergradient_method == (
        Truncated(last_steps=2)
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_config_loads_as_the_same(name, tmp_path):
    proximal = "inner.proximal=1" if METHODS[name].is_implicit else "inner.proximal=0"
    config = load(f"hypergradient={name}", proximal)
    save_config(config, tmp_path / "config.yaml")
    assert load(file=tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["hypergradient=unroled"], "did you mean 'unrolled'"),
        (["hypergradient_options.last_steps=1"], "unknown key 'hypergradient_options.last_steps'"),
        (["hypergradient=truncated", "hypergradient_options.last_steps=-1"], "it cannot be negative"),
        (["hypergradient=truncated", "hypergradient_options.last_steps=5"], "there are inner.steps=4"),
        (["hypergradient=cg"], "take inner.proximal=1"),
        (["hypergradient=cg", "inner.proximal=1", "hypergradient_options.iterations=0"], "at least 1"),
        (["hypergradient=cg", "inner.proximal=1", "hypergradient_options.alpha=0"], "it must be positive"),
        (["hypergradient=cg", "inner.proximal=1", "hypergradient_options.rates=no"], "hypergradient_options.rates"),
        (["hypergradient=neumann", "inner.proximal=1", "hypergradient_options.alpha=0"], "it must be positive"),
        (["hypergradient=neumann", "inner.proximal=1", "hypergradient_options.iterations=-1"], "negative"),
        (["hypergradient=darts", "inner.proximal=1", "hypergradient_options.radius=-1"], "it cannot be negative"),
        (["hypergradient=sama", "inner.proximal=1", "hypergradient_options.radius=-1"], "it cannot be negative"),
        (["hypergradient=darts", "inner.proximal=1", "inner.fast_weights=looped"], "inner.fast_weights=batched"),
        (["hypergradient=darts", "inner.proximal=1", "inner.checkpoint=true"], "inner.checkpoint=false"),
        (["hypergradient=forward_over_reverse", "inner.fast_weights=looped"], "inner.fast_weights=auto"),
        (["hypergradient=forward_over_reverse", "inner.optimizer=adamw"], "inner.optimizer=sgd"),
        (["hypergradient=forward_over_reverse", "inner.checkpoint=true"], "inner.checkpoint=false"),
        (["hypergradient=forward_over_reverse", "inner.proximal=1"], "inner.proximal=0"),
        (["inner.proximal=-1"], "inner.proximal=-1"),
        (["inner.proximal=1", "inner.fast_weights=dual"], "proximal term"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_one_sentence(overrides, says):
    with pytest.raises(UserError) as refused:
        load(*overrides)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_of_another_method_are_refused():
    with pytest.raises(UserError, match="cg takes its own"):
        RunConfig(problem="toy", hypergradient="cg", hypergradient_options=Neumann(), inner=InnerConfig(proximal=1.0))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is(name):
    method = METHODS[name]
    assert find_method(name) is method
    assert method.name == name
    assert "arXiv" in method.__doc__ or "NeurIPS" in method.__doc__
    assert all(getattr(method.card, item.name) for item in fields(method.card))
