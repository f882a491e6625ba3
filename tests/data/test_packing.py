"""Short rows read as one: the same losses and the same hypergradient from fewer tokens."""

from dataclasses import replace

import pytest
import torch
from tiny_models import FAMILIES, tiny_gpt2

from problems.in_context import InContext
from reckoning_betty.config import TrainingConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder, of_rows, of_tasks
from reckoning_betty.data.packing import pack
from reckoning_betty.data.task import Question, StoredTasks, Task
from reckoning_betty.inner.encode import encoding_loss, encoding_losses
from reckoning_betty.inner.fast_weights import plan_fast_weights
from reckoning_betty.inner.losses import answer_nll, nll_of
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.causal_lm import layer_names, reads_packed_rows

STEPS = 2


@pytest.fixture
def tasks():
    """Short and long facts, of which a long one has room for several short ones."""
    questions = tuple(
        Question(text=text, answer=answer, hops=1, relevant=(index,))
        for index, (text, answer) in enumerate([("x a ?", "y"), ("x a of b of c of d ?", "z"), ("x ?", "y z")])
    )
    return [
        Task(facts=("a is b", "c is d of e of f of g", "b c", "d is a"), questions=questions),
        Task(facts=("g is f of e a", "b c", "d e a", "e a"), questions=questions[:2]),
    ]


@pytest.fixture
def packing(tokenizer):
    return TaskEncoder(tokenizer, Prompts(), packs=True)


def hypergradient(model, facts, asked, form):
    """By theta and the rates, after two inner steps, and the inner losses."""
    names = [name for name, _ in model.named_parameters()]
    plan = plan_fast_weights(model, names, form, len(facts.tokens), facts.num_tokens, STEPS)
    rates, fast, losses = InnerRates(layer_names(model), STEPS, 0.2), plan.start(model, len(facts.tokens)), []
    for step in range(STEPS):
        fast, loss = fast.step(lambda now: encoding_loss(now, facts), rates.at(step), create_graph=True)
        losses.append(loss)
    loss = answer_nll(nll_of(fast, asked), asked.scored, asked.rows).sum()
    trained = [*model.parameters(), *rates.parameters()]
    return torch.autograd.grad(loss, trained, allow_unused=True), torch.stack([*losses, loss.detach().expand(2)])


@pytest.mark.parametrize("form", ["dual", "batched", "looped"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_hypergradient_is_that_of_rows_apart(family, form, tasks, encoder, packing, float64):
    model = FAMILIES[family](len(encoder.tokenizer))
    if family == "opt":  # it counts positions by a mask, and so cannot be told them
        assert not reads_packed_rows(model)
        return
    assert reads_packed_rows(model)
    apart = hypergradient(model, encoder.knowledge(tasks).facts, encoder.questions(tasks), form)
    facts, asked = packing.knowledge(tasks).facts, packing.questions(tasks)
    assert facts.packing is not None
    assert asked.packing is not None
    together = hypergradient(model, facts, asked, form)
    digits = 1e-11 if family == "gpt2" else 1e-5  # the others have rotations or norms in float32
    torch.testing.assert_close(together[1], apart[1], rtol=digits, atol=0)
    for one, other in zip(together[0], apart[0], strict=True):
        if one is not None or other is not None:
            assert (one - other).norm() <= digits * (other.norm() + 1)


def test_the_baselines_gradient_is_that_of_rows_apart(tasks, encoder, packing, float64):
    model = tiny_gpt2(len(encoder.tokenizer))

    def gradient(encoder):
        level = InContext(model, TrainingConfig(), StoredTasks(tasks=tasks, seed=0), encoder, 0.5, with_facts=False)
        return torch.autograd.grad(level.training_step(encoder.without_facts(tasks, recall=False)), model.parameters())

    for one, other in zip(gradient(packing), gradient(encoder), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def test_each_token_has_a_place_of_its_own_and_comes_back_to_where_it_was():
    lengths, shape = [[3, 7, 2, 3], [6, 2, 3]], (4, 7)
    packing = pack(lengths, shape, None)
    assert packing.source.shape == (2, 1, 15)  # 3 + 7 + 2 + 3, where rows apart take 4 x 7
    values = torch.arange(2 * 4 * 7).view(2, *shape)
    there = packing.packed(values)
    back = packing.unpacked(there)
    for task, rows in enumerate(lengths):
        places = [packing.place[task, row, :length].tolist() for row, length in enumerate(rows)]
        assert len({place for row in places for place in row}) == sum(rows)
        for row, length in enumerate(rows):
            assert torch.equal(back[task, row, :length], values[task, row, :length])
            assert packing.positions[task].flatten()[places[row]].tolist() == list(range(length))


@pytest.mark.parametrize("lengths", [[[5, 5, 5]], [[5, 5, 4], [5, 4, 5]], [[5]]])
def test_what_would_save_little_stays_as_it_is(lengths):
    assert pack(lengths, (max(map(len, lengths)), 5), None) is None


def test_a_packed_row_is_never_longer_than_the_model_can_read():
    lengths = [[5, 3, 3, 3, 3]]
    assert pack(lengths, (5, 5), None).positions.shape == (1, 1, 17)
    assert pack(lengths, (5, 5), 16).positions.shape == (1, 2, 9)
    assert pack(lengths, (5, 5), 8).positions.shape == (1, 3, 6)
    assert pack(lengths, (5, 5), 5) is None


def test_parts_of_a_batch(tasks, packing, float64):
    """Tasks keep their packing; facts read in several passes are not packed."""
    facts = packing.knowledge(tasks).facts
    second = of_tasks(facts, slice(1, 2))
    assert torch.equal(second.packing.source, facts.packing.source[1:])
    assert of_rows(facts, slice(0, 2)).packing is None
    model = tiny_gpt2(len(packing.tokenizer))
    names = [name for name, _ in model.named_parameters()]
    fast = plan_fast_weights(model, names, "batched", 2, facts.num_tokens, STEPS).start(model, 2)
    whole, passes = encoding_loss(fast, facts), sum(loss_of(fast) for loss_of in encoding_losses(facts, 2))
    torch.testing.assert_close(whole, passes, rtol=1e-12, atol=0)
    assert facts.num_tokens < replace(facts, packing=None).num_tokens


def test_a_fact_without_tokens_takes_no_place(tasks, packing):
    empty = replace(tasks[0], facts=("", *tasks[0].facts))
    assert packing.knowledge([empty]).facts.num_tokens == packing.knowledge(tasks[:1]).facts.num_tokens
