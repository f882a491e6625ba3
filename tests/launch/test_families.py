"""Decoders of every family, from a saved folder with its tokenizer through training to an answer."""

import json

import pytest
from launching import TINY, call, last_of_each
from safetensors.torch import load_file
from tiny_models import FAMILIES
from transformers import AutoModelForCausalLM, Qwen2Tokenizer

from problems import find_problem
from reckoning_betty.models.word_tokenizer import word_tokenizer

SHORT = last_of_each(
    *TINY, "reckoning.steps=2", "reckoning.learning_rate=0.01", "data.test_hops=[2]", "data.test_stories=2"
)
QUESTIONS = ["How is Ada related to Alma ?", "How is Adam related to Alma ?"]


@pytest.fixture(scope="session")
def words():
    problem = find_problem("clutrr")
    return problem.load_splits(problem.data_config(), None, 0).vocabulary


def tokenizer_of(family, words):
    """transformers reads any tokenizer beside a Qwen2 as one of Qwen2's class."""
    if family != "qwen2":
        return word_tokenizer(words)
    return Qwen2Tokenizer().train_new_from_iterator([[f" {word}" for word in words] * 3], vocab_size=600)


@pytest.mark.parametrize(
    ("family", "fast_weights"), [*((family, "auto") for family in FAMILIES), ("gemma2", "lora"), ("phi3", "lora")]
)
def test_a_saved_model_trains_and_answers(family, fast_weights, words, facts_file, tmp_path):
    tokenizer, folder, run = tokenizer_of(family, words), tmp_path / family, tmp_path / "run"
    tokenizer.save_pretrained(folder)
    FAMILIES[family](len(tokenizer)).save_pretrained(folder)
    options = (f"model.name={folder}", f"inner.fast_weights={fast_weights}", "baselines=[]")
    result = call("train", "--problem", "clutrr", "--output", run, *last_of_each(*SHORT, *options))
    assert (result.code, result.said) == (0, []), result.err

    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, run / "checkpoint"))
    assert type(after) is type(before)
    trained = dict(after.named_parameters())
    if fast_weights == "lora":
        assert all(parameter.equal(trained[name]) for name, parameter in before.named_parameters())
        adapters = load_file(run / "checkpoint/adapter/adapter_model.safetensors")
        assert all(tensor.any() for name, tensor in adapters.items() if "lora_B" in name)
    else:
        assert not any(parameter.equal(trained[name]) for name, parameter in before.named_parameters())

    asked = [part for question in QUESTIONS for part in ("--question", question)]
    answered = call("ask", "--checkpoint", run / "checkpoint", "--facts", facts_file, *asked)
    assert (answered.code, answered.said) == (0, [])
    assert [line.split("  ")[0] for line in answered.out.splitlines()[2:]] == QUESTIONS
    summary = json.loads((run / "summary.json").read_text())
    assert list(summary["label_accuracy"]["reckoning"]["test"]) == ["2"]
