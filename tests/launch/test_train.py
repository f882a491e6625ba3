"""What a run leaves, and that every choice of the config trains."""

import dataclasses
import importlib.metadata
import json
import math
import re
import time

import matplotlib.image
import pytest
import torch
from launching import METHODS, ROOT, TINY, call, contents, last_of_each, printed
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import problems.in_context
import problems.outer_level
from problems import find_problem, problem_names
from reckoning_betty.config_io import load_config, load_saved_config
from reckoning_betty.distributed.strategies import Strategy
from reckoning_betty.guards import NonFiniteError

SHORT = last_of_each(*TINY, *(f"{method}.steps=3" for method in METHODS), "baselines=[]")
CONFIGS = [
    (name, file) for name in problem_names() for file in sorted((ROOT / "engine_configs" / name).rglob("*.yaml"))
]
LAUNCHERS = ("accelerate", "deepspeed")


def train(output, *options, data=()):
    return call("train", "--problem", "clutrr", "--output", output, *data, *last_of_each(*SHORT, *options))


def summary(run):
    return json.loads((run / "summary.json").read_text())


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_directory_holds_what_the_contract_says(trained):
    run = trained[1]
    told = summary(run)
    assert (told["problem"], told["method"], told["seed"]) == ("clutrr", "reckoning", 0)
    assert list(told["label_accuracy"]) == list(METHODS)
    for splits in told["label_accuracy"].values():
        assert {split: list(table) for split, table in splits.items()} == {
            "validation": ["2", "3"],
            "test": ["2", "3", "4"],
        }
        assert all(0 <= value <= 1 for table in splits.values() for value in table.values())
    assert told["questions"] == {"validation": 12, "test": 15}
    for key in ("tasks_per_second", "peak_memory_mib", "seconds"):
        assert math.isfinite(told[key])
        assert told[key] > 0
    assert told["versions"]["torch"] == importlib.metadata.version("torch")
    assert all(told["methods"][method]["steps"] == 10 for method in METHODS)
    assert len(told["methods"]["reckoning"]["inner_losses"]) == 3

    entries = metrics(run)
    assert {entry["method"] for entry in entries} == set(METHODS)
    for method in METHODS:
        mine = [entry for entry in entries if entry["method"] == method]
        assert [entry["step"] for entry in mine if "validation_label_accuracy" in entry] == [5, 10]
        assert [entry["step"] for entry in mine if "answer_loss" in entry] == [10]
        assert all(math.isfinite(value) for entry in mine for key, value in entry.items() if key != "method")
    assert not list(run.rglob(".*"))


def test_every_answer_of_the_test_is_kept_and_makes_the_tables(trained):
    told = summary(trained[1])
    for method in METHODS:
        answers = [json.loads(line) for line in (trained[1] / "answers" / f"{method}.jsonl").read_text().splitlines()]
        assert [answer["hops"] for answer in answers] == [2] * 5 + [3] * 5 + [4] * 5
        right = [answer["given"] == answer["answer"] for answer in answers]
        by_hops = [sum(right[start : start + 5]) / 5 for start in (0, 5, 10)]
        assert list(told["label_accuracy"][method]["test"].values()) == by_hops
        by_answer = told["methods"][method]["label_accuracy_by_answer"]["test"]
        assert sum(row["n"] * row["label_accuracy"] for row in by_answer.values()) == pytest.approx(sum(right))
        assert {answer["answer"] for answer in answers} == set(by_answer)


def test_sanity_baselines_train_and_facts_are_recalled_behind_answers(tmp_path):
    methods = ("reckoning", "in_context", "no_question", "random_facts")
    options = ["baselines=[in_context,no_question,random_facts]", "knowledge_term=because"]
    result = train(tmp_path / "run", *options, "evaluation.max_recall_tokens=12")
    assert result.code == 0, result.err
    told = summary(tmp_path / "run")
    assert list(told["label_accuracy"]) == list(methods)
    for method in methods:
        recall = told["methods"][method]["knowledge_recall"]
        for split in ("validation", "test"):
            assert recall[split]["2"].keys() == {"n", "exact", "precision", "recall"}
            assert sum(row["n"] for row in recall[split].values()) == told["questions"][split]
    checkpoint = ("--checkpoint", tmp_path / "run" / "baselines" / "random_facts", "--problem", "clutrr")
    assert call("evaluate", *checkpoint).code == 0


def test_the_plots_are_pictures_that_are_not_blank(trained):
    plots = sorted((trained[1] / "plots").iterdir())
    assert [file.name for file in plots] == [
        *("inner_losses.png", "inner_rates.png", "label_accuracy.png", "learning_curve.png")
    ]
    for file in plots:
        assert file.read_bytes().startswith(b"\x89PNG\r\n")
        pixels = matplotlib.image.imread(file)[..., :3]
        assert min(pixels.shape[:2]) > 200
        assert (pixels < 0.9).any(axis=-1).mean() > 0.005


def test_the_table_on_the_terminal_agrees_with_the_summary(trained):
    result, run = trained
    assert result.said == []
    told = summary(run)["label_accuracy"]
    expected = {
        method: {hops: f"{100 * value:.1f}" for hops, value in told[method]["test"].items()} for method in METHODS
    }
    assert printed(result.out) == expected


def test_the_saved_config_loads_to_the_same_config(trained):
    problem = find_problem("clutrr")
    given = load_config("clutrr", problem.data_config, problem.default_config, TINY)
    assert load_saved_config("clutrr", problem.data_config, trained[1] / "config.yaml") == dataclasses.replace(
        given, threads=1
    )
    assert given.data.hops == (2, 3)
    assert dataclasses.asdict(given)["reckoning"]["steps"] == 10


def test_plain_transformers_loads_the_checkpoint(trained):
    for folder in (trained[1] / "checkpoint", trained[1] / "baselines/in_context", trained[1] / "baselines/no_facts"):
        model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not any(told.values())
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer("Ada is the mother of Adam .", return_tensors="pt")["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert torch.isfinite(model(input_ids=ids).logits).all()
    assert load_file(trained[1] / "checkpoint/inner_rates.safetensors")["log_rates"].shape == (3, 2)


def test_an_equal_seed_trains_equal_weights(trained, tmp_path):
    others = ("baselines=[]", "--output", tmp_path / "again")
    assert call("train", "--problem", "clutrr", *TINY, *others).code == 0
    assert contents(tmp_path / "again/checkpoint") == contents(trained[1] / "checkpoint")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_alone(tmp_path, method):
    run = tmp_path / "run"
    result = train(run, f"method={method}")
    assert (result.code, result.said) == (0, [])
    assert summary(run)["method"] == method
    assert list(summary(run)["label_accuracy"]) == [method]
    assert (run / "checkpoint/inner_rates.safetensors").exists() == (method == "reckoning")
    assert not (run / "baselines").exists()
    names = {"inner_losses.png", "inner_rates.png"} if method == "reckoning" else set()
    assert {file.name for file in (run / "plots").iterdir()} == names | {"label_accuracy.png", "learning_curve.png"}


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (("objective=single",), (3, 2)),
        (("objective=multi", "inner.fast_weights=looped"), (3, 2)),
        (("inner.rates=static",), (1, 1)),
        (("inner.rates=per_step",), (1, 2)),
        (("inner.rates=per_layer",), (3, 1)),
        (("inner.rates=per_tensor", "data.form=sentences"), (16, 2)),
        (("data.noise=irrelevant", "data.unseen_names=true", "reckoning.schedule=cosine"), (3, 2)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else "",
)
def test_every_form_of_the_method_trains(tmp_path, options, shape):
    run = tmp_path / "run"
    result = train(run, *options)
    assert (result.code, result.said) == (0, [])
    rates = load_file(run / "checkpoint/inner_rates.safetensors")["log_rates"]
    assert rates.shape == shape
    assert (rates == rates.new_tensor(0.1).log()).all() == (options == ("inner.rates=static",))
    last = metrics(run)[-1]
    assert ("knowledge_loss" in last) == (options != ("objective=single",))
    assert last["step"] == 3


def test_muon_trains_whole_weights_and_is_refused_where_they_are_parted(tmp_path, monkeypatch):
    muon = ("reckoning.optimizer=muon", "in_context.optimizer=muon")
    assert train(tmp_path / "run", *muon, "baselines=[in_context]").code == 0
    monkeypatch.setattr("problems.methods.launched_strategy", lambda *_: Strategy.ZERO)
    for method, section in (("random_facts", "reckoning"), ("no_question", "in_context")):
        refused = train(tmp_path / method, *muon, f"method={method}")
        assert refused.code == 2
        (sentence,) = refused.said
        assert f"{section}.optimizer=muon steps whole matrices, which {Strategy.ZERO} parts" in sentence
        assert f"take {section}.optimizer=adamw" in sentence


def test_with_lora_every_method_trains_adapters_alone(tmp_path):
    run = tmp_path / "run"
    lora = ("inner.fast_weights=lora", "inner.lora_rank=2", "baselines=[in_context,no_facts]")
    result = train(run, *lora, *(f"{method}.learning_rate=0.01" for method in METHODS))
    assert (result.code, result.said) == (0, [])
    folders = [run / "checkpoint", run / "baselines/in_context", run / "baselines/no_facts"]
    bases = [load_file(folder / "model.safetensors") for folder in folders]
    for base in bases[1:]:  # the same random weights, which no method changed
        assert base.keys() == bases[0].keys()
        assert all(torch.equal(base[name], bases[0][name]) for name in base)
    adapters = [load_file(folder / "adapter/adapter_model.safetensors") for folder in folders]
    for weights in adapters:
        assert {len(w) for name, w in weights.items() if "lora_A" in name} == {2}
        assert all(w.any() for name, w in weights.items() if "lora_B" in name)  # 0 before training
    name = next(name for name in adapters[0] if "lora_B" in name)
    assert not any(torch.equal(adapters[0][name], weights[name]) for weights in adapters[1:])


def test_an_answer_longer_than_decoding_goes_on_for_is_refused(shared, tmp_path):
    model = f"model.name={shared / 'models/TinyStories-656K'}"
    result = train(tmp_path / "run", "method=no_facts", model)
    assert result.code == 2
    assert len(result.said) == 1
    assert "evaluation.max_answer_tokens=8 is not possible: an answer has 9 tokens" in result.said[0]
    assert train(tmp_path / "run", "method=no_facts", model, "evaluation.max_answer_tokens=9").code == 0


def test_a_run_without_a_test_reports_on_validation(tmp_path):
    result = train(tmp_path / "run", "data.test_stories=0")
    assert result.code == 0
    assert "(validation, %)" in result.out
    assert list(printed(result.out)["reckoning"]) == ["2", "3"]
    assert len(summary(tmp_path / "run")["methods"]["reckoning"]["inner_losses"]) == 3


def test_runs_without_an_output_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("clutrr-001", "clutrr-002"):
        assert call("train", "--problem", "clutrr", *SHORT, "method=no_facts").code == 0
        assert (tmp_path / "runs" / name / "summary.json").is_file()


@pytest.mark.filterwarnings("ignore")  # of the trackers' own packages
@pytest.mark.parametrize(
    ("tracker", "files"), [("tensorboard", "**/events.out.tfevents*"), ("wandb", "wandb/offline-run-*/*.wandb")]
)
def test_a_tracker_hears_the_metrics(tmp_path, monkeypatch, tracker, files):
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    result = train(run, "method=no_facts", f"tracking.tracker={tracker}", "tracking.project=tiny")
    assert result.code == 0, result.err
    written = list(run.glob(files))
    assert len(written) == 1
    until = time.monotonic() + 30  # wandb writes in a process of its own, which may still be at it
    while b"no_facts/answer_loss" not in written[0].read_bytes():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_patience_stops_before_the_last_step(tmp_path, monkeypatch):
    monkeypatch.setattr("reckoning_betty.training.engine.overall", lambda table: 0.5)
    run = tmp_path / "run"
    result = train(run, "method=no_facts", "no_facts.patience=2", "no_facts.steps=30", "no_facts.validate_every=3")
    assert result.code == 0
    assert summary(run)["methods"]["no_facts"]["steps"] == 9
    assert max(entry["step"] for entry in metrics(run)) == 9


def test_a_diverging_inner_level_is_named_and_ends_with_status_3(tmp_path):
    result = train(tmp_path / "run", "inner.initial_rate=1e30")
    assert result.code == 3
    assert len(result.said) == 1
    assert re.match(
        r"error: inner level \(knowledge encoding\), outer step 1, inner step \d: the loss 'L_CLM'", result.said[0]
    )
    assert "No checkpoint was saved yet" in result.said[0]
    assert "inner.initial_rate" in result.said[0]


def test_a_loss_that_turns_infinite_leaves_the_best_checkpoint(tmp_path, monkeypatch):
    answer_nll, calls = problems.in_context.answer_nll, []

    def infinite_in_the_fifth_step(*args):
        calls.append(1)
        return answer_nll(*args) * (math.inf if len(calls) == 5 else 1.0)

    monkeypatch.setattr(problems.in_context, "answer_nll", infinite_in_the_fifth_step)
    run = tmp_path / "run"
    result = train(run, "method=in_context", "in_context.steps=9", "in_context.validate_every=2")
    assert result.code == 3
    assert len(result.said) == 1
    assert "in-context baseline, outer step 5: the loss 'answer_loss' is not finite" in result.said[0]
    assert f"stays in {run / 'checkpoint'}" in result.said[0]
    assert json.loads((run / "checkpoint/reckoning.json").read_text())["outer_step"] in (2, 4)
    assert torch.load(run / "resume/in_context.pt", weights_only=True)["global_step"] == 4


def test_a_hypergradient_that_is_not_finite_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(problems.outer_level, "global_norm", lambda gradients, processes: torch.tensor(math.nan))
    monkeypatch.setattr(problems.outer_level, "refuse_non_finite", refuse_first)
    result = train(tmp_path / "run")
    assert result.code == 3
    assert "outer level (reasoning), outer step 1: the hypergradient 'model.transformer.wte.weight'" in result.said[0]


def refuse_first(level, outer_step, inner_step, tensors, what="loss"):
    """As the guard, were the first tensor not finite."""
    raise NonFiniteError(f"{level}, outer step {outer_step}: the {what} '{next(iter(tensors))}' is not finite")


def test_real_stories_train(shared, tmp_path):
    data = shared / "data/clutrr_bench/data_ab2918c7"
    result = train(tmp_path / "run", "method=no_facts", "evaluation.max_answer_tokens=2", data=("--data", data))
    assert (result.code, result.said) == (0, [])
    assert summary(tmp_path / "run")["questions"]["test"] == 2929
    assert list(printed(result.out)["no_facts"]) == ["3", "4", "6"]


@pytest.mark.parametrize(("problem", "file"), CONFIGS, ids=lambda value: getattr(value, "stem", value))
def test_every_run_config_loads(problem, file):
    config = load_config(problem, find_problem(problem).data_config, file, [])
    assert config.problem == problem
    assert load_config(problem, find_problem(problem).data_config, file, ["seed=7"]).seed == 7


def test_every_config_is_of_a_problem_a_launcher_or_an_experiment():
    found = set((ROOT / "engine_configs").rglob("*.y*ml"))
    launchers = {file for name in LAUNCHERS for file in (ROOT / "engine_configs" / name).rglob("*.yaml")}
    experiments = set((ROOT / "engine_configs" / "reproduce").glob("*.yaml"))
    assert found == launchers | experiments | {file for _, file in CONFIGS}
    assert ("clutrr", find_problem("clutrr").default_config) in CONFIGS
