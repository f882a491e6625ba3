"""A padded batch of ragged tasks equals its tasks one by one."""

import pytest
import torch
from tiny_models import MODELS

from problems.in_context import InContext
from problems.methods import build_levels
from reckoning_betty.config import InnerConfig, RunConfig, TrainingConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.task import Question, StoredTasks, Task
from reckoning_betty.errors import UserError
from reckoning_betty.inner.encode import encode, encoding_loss
from reckoning_betty.inner.fast_weights import plan_fast_weights
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.causal_lm import layer_names


def start(model, num_tasks, form):
    names = [name for name, _ in model.named_parameters()]
    return plan_fast_weights(model, names, form, num_tasks, num_tokens=20, num_steps=3).start(model, num_tasks)


def adapted(model, encoder, tasks, form):
    rates = InnerRates(layer_names(model), 3, 0.2)
    return encode(start(model, len(tasks), form), encoder.knowledge(tasks).facts, rates, 3)


@pytest.mark.parametrize("form", ["dual", "batched", "looped"])
@pytest.mark.parametrize("architecture", MODELS)
def test_encoding_a_batch_equals_encoding_each_task(architecture, form, ragged_tasks, encoder, float64):
    model = MODELS[architecture](len(encoder.tokenizer))
    fast, losses = adapted(model, encoder, ragged_tasks, form)
    probe = torch.tensor([[[3, 4, 5, 6]]])
    logits = fast.logits(probe.expand(2, -1, -1))
    for index, task in enumerate(ragged_tasks):
        alone, alone_losses = adapted(model, encoder, [task], form)
        torch.testing.assert_close(losses[:, index], alone_losses[:, 0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(logits[index], alone.logits(probe)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["reckoning", "in_context", "no_facts"])
@pytest.mark.parametrize("objective", ["single", "multi"])
def test_gradient_of_a_batch_is_the_mean_over_its_tasks(method, objective, ragged_tasks, tokenizer, float64):
    def gradient(tasks):
        model = MODELS["gpt2"](len(tokenizer))
        config = RunConfig(
            problem="test",
            objective=objective,
            inner=InnerConfig(steps=2, initial_rate=0.2),
            **{method: TrainingConfig(steps=1, tasks_per_step=len(tasks))},
        )
        source = StoredTasks(tasks=tasks, seed=0)
        outer = build_levels(method, config, model, source, TaskEncoder(tokenizer, Prompts())).outer
        outer.draw_tasks()
        if method == "reckoning":
            fast, facts = start(model, len(tasks), "batched"), outer.knowledge.facts
            for step in range(2):
                rates = outer.module.rates.at(step)
                fast, _ = fast.step(lambda now: encoding_loss(now, facts), rates, create_graph=True)
            outer.knowledge_encoding = type("Sibling", (), {"fast": fast})
        loss = outer.training_step(outer.get_batch())
        return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)

    together = gradient(ragged_tasks)
    apart = [gradient([task]) for task in ragged_tasks]
    for whole, *parts in zip(together, *apart, strict=True):
        if whole is not None:
            torch.testing.assert_close(whole, sum(parts) / len(parts), rtol=1e-9, atol=1e-12)


def test_padding_tokens_change_nothing(ragged_tasks, encoder, float64):
    model = MODELS["gpt2"](len(encoder.tokenizer))
    facts = encoder.knowledge(ragged_tasks).facts
    before = encoding_loss(start(model, 2, "batched"), facts)
    padding = ~facts.scored & (torch.arange(facts.tokens.shape[2]) > 0)
    assert padding.any()
    facts.tokens[padding] = 7
    after = encoding_loss(start(model, 2, "batched"), facts)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-14)


def test_relevant_facts_are_the_union_over_the_questions(ragged_tasks, encoder):
    knowledge = encoder.knowledge(ragged_tasks)
    assert knowledge.relevant.tolist() == [[True, False, False], [True, True, False]]
    assert knowledge.facts.rows.tolist() == [[True, True, False], [True, True, True]]


def test_answer_and_end_alone_are_scored(ragged_tasks, encoder):
    rows = encoder.questions(ragged_tasks)
    scored = encoder.tokenizer.convert_ids_to_tokens(rows.tokens[1, 1][rows.scored[1, 1]])
    assert scored == ["y", "z", "<end>"]
    assert rows.rows.tolist() == [[True, False], [True, True]]


def test_in_context_row_is_facts_question_answer_then_the_relevant_facts(ragged_tasks, encoder):
    rows = encoder.in_context(ragged_tasks, recall=True)
    tokens, tokenizer = rows.answers.tokens[0, 0], encoder.tokenizer
    assert tokenizer.decode(tokens[: rows.answers.scored[0, 0].nonzero()[0]]) == "a is b c is d of e x a ?"
    assert tokenizer.convert_ids_to_tokens(tokens[rows.answers.scored[0, 0]]) == ["y", "<end>"]
    assert tokenizer.convert_ids_to_tokens(tokens[rows.recalled[0, 0]])[1:] == ["a", "is", "b", "<end>"]


def test_recall_in_context_only_for_the_multi_task_objective_and_with_facts(tokenizer, encoder):
    model = MODELS["gpt2"](len(tokenizer))
    source = StoredTasks(tasks=[], seed=0)
    with_facts = InContext(model, TrainingConfig(), source, encoder, 0.5, with_facts=True)
    without = InContext(model, TrainingConfig(), source, encoder, 0.5, with_facts=False)
    assert (with_facts.knowledge_weight, without.knowledge_weight) == (0.5, 0.0)


def test_prompt_before_a_fact_is_read_but_not_scored(tokenizer, ragged_tasks):
    facts = TaskEncoder(tokenizer, Prompts(fact="x ? {fact}")).knowledge(ragged_tasks).facts
    assert tokenizer.decode(facts.tokens[0, 0][:5]) == "x ? a is b"
    assert facts.scored[0, 0][:5].tolist() == [False, False, True, True, True]


def test_a_row_longer_than_the_model_is_refused(tokenizer):
    task = Task(facts=("a b c d e f",), questions=(Question(text="x ?", answer="y", hops=1, relevant=(0,)),))
    TaskEncoder(tokenizer, Prompts(), max_tokens=5).knowledge([task])  # the last token is predicted, and never read
    with pytest.raises(UserError, match=r"6 tokens does not fit a model of 4.*model\.context"):
        TaskEncoder(tokenizer, Prompts(), max_tokens=4).knowledge([task])


def test_a_prompt_without_its_placeholder_is_refused():
    with pytest.raises(UserError, match=r"must contain \{question\}"):
        Prompts(in_context="{facts}")
