"""``inner.backwards``: facts that inner steps read from their end too."""

import copy

import pytest
import torch
from tiny_models import tiny_gpt2
from tokenizers.processors import TemplateProcessing

from problems.registry import find_problem
from reckoning_betty.answering import answerer_of
from reckoning_betty.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from reckoning_betty.config import InnerConfig, ModelConfig, RunConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.task import Question, Task
from reckoning_betty.inner.encode import encoding_loss
from reckoning_betty.inner.fast_weights import FastWeightsPlan
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.causal_lm import adapted_names, layer_names, load_model

WORDS = [*"abcdefg", "is", "of", *"x?yz"]


def told_backwards_too(task):
    """The same as text, for a tokenizer of words."""
    return Task(
        facts=(*task.facts, *(" ".join(reversed(fact.split())) for fact in task.facts)), questions=task.questions
    )


@pytest.mark.parametrize("packs", [False, True])
def test_rows_are_those_of_facts_told_backwards_too(ragged_tasks, tokenizer, packs, float64):
    found = TaskEncoder(tokenizer, Prompts(backwards=True), packs=packs).knowledge(ragged_tasks)
    expected = TaskEncoder(tokenizer, Prompts(), packs=packs).knowledge(list(map(told_backwards_too, ragged_tasks)))
    assert found.facts.tokens.tolist() == expected.facts.tokens.tolist()
    assert found.facts.scored.tolist() == expected.facts.scored.tolist()
    assert found.relevant.tolist() == expected.relevant.tolist()
    assert found.relevant.sum() == TaskEncoder(tokenizer, Prompts()).knowledge(ragged_tasks).relevant.sum()
    model = tiny_gpt2(len(tokenizer))
    fast = FastWeightsPlan(names=adapted_names(model), form="dual").start(model, len(ragged_tasks))
    torch.testing.assert_close(
        encoding_loss(fast, found.facts), encoding_loss(fast, expected.facts), rtol=1e-13, atol=0
    )


def test_the_prompt_before_a_fact_stays_there(tokenizer, ragged_tasks):
    facts = TaskEncoder(tokenizer, Prompts(fact="x ? {fact}", backwards=True)).knowledge(ragged_tasks).facts
    told = tokenizer.batch_decode(facts.tokens[0])
    assert [row.removesuffix(" <pad>").split(" <")[0] for row in told[:4]] == [
        "x ? a is b",
        "x ? c is d of e",
        "x ? b is a",
        "x ? e of d is c",
    ]
    assert facts.scored[0, 2][:5].tolist() == [False, False, True, True, True]


def test_what_begins_a_sequence_stays_there(tokenizer, ragged_tasks):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.bos_token = tokenizer.eos_token
    first = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, first)]
    )
    tokens = TaskEncoder(tokenizer, Prompts(backwards=True)).knowledge(ragged_tasks).facts.tokens
    assert tokens[0, 0, :4].tolist() == [first, *tokenizer.convert_tokens_to_ids(["a", "is", "b"])]
    assert tokens[0, 2, :4].tolist() == [first, *tokenizer.convert_tokens_to_ids(["b", "is", "a"])]


def test_a_checkpoint_reads_as_it_was_trained(tmp_path):
    model, tokenizer = load_model(ModelConfig(width=8, heads=2, context=16), WORDS, seed=0)
    task = Task(facts=("a is b", "c is d of e"), questions=(Question(text="x a ?", answer="y", hops=1, relevant=(0,)),))
    prompts = find_problem("clutrr").prompts_of(RunConfig(problem="clutrr", inner=InnerConfig(backwards=True)))
    assert prompts == Prompts(backwards=True)
    losses = []
    for own, asked in ((prompts, task), (Prompts(), told_backwards_too(task)), (Prompts(), task)):
        given = Checkpoint(
            model=model,
            tokenizer=tokenizer,
            method="reckoning",
            problem="clutrr",
            prompts=own,
            rates=InnerRates(layer_names(model), 2, 0.1),
        )
        save_checkpoint(tmp_path / "checkpoint", given)
        answerer = answerer_of(load_checkpoint(tmp_path / "checkpoint"), torch.device("cpu"))
        losses.append(answerer.answer([asked]).inner_losses[:, 0])
    torch.testing.assert_close(losses[0], losses[1])
    assert (losses[0] - losses[2]).abs().min() > 1e-3
