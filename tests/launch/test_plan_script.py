"""The planner's table, what it advises, and its sentences for bad input."""

import json
import re

import pytest
import transformers
from launching import TINY, call

from reckoning_betty.hypergradients.registry import METHODS

PLAN = ("plan", "--problem", "clutrr", *TINY)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """How a plan for two devices on which nothing fits ended, and the bills that it wrote."""
    file = tmp_path_factory.mktemp("plan") / "plan.json"
    result = call(*PLAN, "--devices", "2", "--memory", "0.0001", "--output", file)
    assert result.code == 0, result.err
    return result, json.loads(file.read_text())


def test_every_method_under_every_strategy(planned):
    result, content = planned
    bills = {(row["method"], row["strategy"]): row for row in content["rows"]}
    assert {method for method, _ in bills} == set(METHODS)
    strategies = {"ddp", "shard_weights", "fsdp2", "zero1", "zero2", "zero3"}
    assert {strategy for method, strategy in bills if method == "unrolled"} == strategies
    assert "impossible" in bills["forward_over_reverse", "shard_weights"]
    assert bills["unrolled", "shard_weights"]["weights"] < bills["unrolled", "ddp"]["weights"]
    assert "4 facts" in result.out or "3 facts" in result.out
    assert all(row["fits"] == "no" for row in content["rows"])
    for method in METHODS:
        assert method in result.out


@pytest.mark.parametrize("sizes", [(), ("--facts", "3", "--fact-tokens", "8")])
def test_facts_read_backwards_are_twice_as_many(sizes):
    found = [call(*PLAN, *sizes, f"inner.backwards={said}", "--memory", "1").out for said in ("false", "true")]
    once, twice = (int(re.search(r"(\d+) facts of", out)[1]) for out in found)
    assert twice == 2 * once


def test_advice_where_nothing_fits(planned):
    out = planned[0].out
    advice = out[out.index("Nothing fits") :]
    assert "inner.checkpoint=true" in advice
    assert "reckoning.tasks_per_step=2" in advice
    assert "shard_weights=true" in advice
    sizes = [float(line.split()[0]) for line in advice.splitlines()[1:] if "shard_weights" not in line and "=" in line]
    assert sizes == sorted(sizes, reverse=True)
    assert "None is enough" in advice


def test_muon_remembers_one_moment_and_parts_nothing(planned, tmp_path):
    result = call(
        *PLAN, "reckoning.optimizer=muon", "--devices", "2", "--memory", "0.0001", "--output", tmp_path / "p.json"
    )
    assert result.code == 0, result.err
    muon, adamw = (
        {row["strategy"]: row for row in rows if row["method"] == "unrolled"}
        for rows in (json.loads((tmp_path / "p.json").read_text())["rows"], planned[1]["rows"])
    )
    # one layer of width 16: attention of 3 * 16 * 16 and 16 * 16, MLP of 2 * 64 * 16, in 4 bytes
    saved = adamw["ddp"]["optimizer"] - muon["ddp"]["optimizer"]
    assert saved == pytest.approx(12 * 16 * 16 * 4, abs=6 * 4)  # and no step count of each
    assert all("muon" in row["impossible"] for name, row in muon.items() if name != "ddp")
    assert "shard_weights=true" not in result.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--memory", "8", "--model", "/nowhere/model"), ("/nowhere/model", "config.json")),
        (("--memory", "8", "--model", "{folder}"), ("no tokenizer", "--facts 8 --fact-tokens 128")),
        (("--memory", "8", "--facts", "8"), ("--facts and --fact-tokens go together",)),
        (("--memory", "8", "--facts", "0", "--fact-tokens", "9"), ("--facts takes 1 or more",)),
        (("--memory", "8", "--facts", "2", "--fact-tokens", "999"), ("999", "64")),
        (("--memory", "0"), ("--memory 0", "above 0")),
        ((), ("--memory is missing",)),
        (("--memory", "8", "--devices", "0"), ("--devices 0",)),
        (("--memory", "8", "--devices", "99"), ("tasks_per_step", "99 devices")),
        (("--check", "check.txt"), ("check.txt", ".json")),
    ],
)
def test_bad_input_ends_in_one_sentence(arguments, says, tmp_path):
    transformers.GPT2Config().save_pretrained(tmp_path)  # a model's folder without a tokenizer
    result = call(*PLAN, *(argument.format(folder=tmp_path) for argument in arguments))
    assert result.code == 2
    assert len(result.said) == 1, result.err
    assert all(part in result.said[0] for part in says)
