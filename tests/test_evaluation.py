import pytest
import torch
from tiny_models import MODELS

from reckoning_betty.data.task import Question, StoredTasks, Task
from reckoning_betty.evaluation import Answerer, accuracy_table, greedy, overall, same_answer
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.causal_lm import layer_names
from reckoning_betty.report import accuracy_lines


def counting_model(tokens):
    """Says the number after the last one; 9 ends."""
    return torch.nn.functional.one_hot((tokens + 1) % 10, 10).float()


def test_greedy_goes_on_to_the_end_token_row_by_row():
    assert greedy(counting_model, [[5], [1, 2, 7]], 8, end=9, pad=0, device="cpu") == [[6, 7, 8], [8]]


def test_greedy_reads_no_more_than_the_model_can():
    """The token that follows the longest row is said too; the shorter row goes on."""

    def model_of_four(tokens):
        assert tokens.shape[1] <= 4
        return counting_model(tokens)

    prompts = [[1], [1, 2, 3], [1, 2, 3, 4], [7]]
    given = greedy(model_of_four, prompts, 8, end=9, pad=0, device="cpu", max_tokens=4)
    assert given == [[2, 3, 4, 5], [4, 5], [5], [8]]
    assert prompts == [[1], [1, 2, 3], [1, 2, 3, 4], [7]]


def test_greedy_stops_at_the_cap():
    assert greedy(counting_model, [[1]], 3, end=9, pad=0, device="cpu") == [[2, 3, 4]]


@pytest.mark.parametrize(
    ("given", "gold", "same"),
    [
        (" Mother", "mother", True),
        ("the mother.", "mother", True),
        ("mother in law", "mother-in-law", False),
        ("mother-in-law", "mother-in-law", True),
        ("", "mother", False),
        ("mother because", "mother", False),
        ("milk , football", "milk,football", True),
        ("milk", "milk,football", False),
        ("football , milk", "milk,football", False),
        ("a", "a", True),
        ("", "a", False),
        ("the", "a", False),
    ],
)
def test_same_answer(given, gold, same):
    assert same_answer(given, gold) is same


def tasks_with_hops(*hops):
    return [Task(facts=("a b",), questions=(Question(text="x ?", answer="y", hops=h, relevant=()),)) for h in hops]


def test_table_counts_by_hops_in_order():
    table = accuracy_table(tasks_with_hops(10, 2, 10, 2, 2), ["y", "y", "z", "z", "y"])
    assert list(table) == ["2", "10"]
    assert table == {"2": {"n": 3, "label_accuracy": 2 / 3}, "10": {"n": 2, "label_accuracy": 0.5}}
    assert overall(table) == 3 / 5


def test_lines_of_a_table():
    lines = accuracy_lines({"reckoning": {"2": 1.0, "10": 0.5}, "no_facts": {"2": 0.061}}, "Title")
    assert lines == [
        "Title",
        "method         2     10",
        "-----------------------",
        "reckoning  100.0   50.0",
        "no_facts     6.1      -",
    ]


@pytest.mark.parametrize("method", ["reckoning", "in_context", "no_facts"])
def test_answers_come_in_the_order_asked_whatever_the_batches(method, ragged_tasks, encoder, float64):
    model = MODELS["gpt2"](len(encoder.tokenizer))
    rates = InnerRates(layer_names(model), 2, 0.2)

    def answers(tasks, per_batch):
        return Answerer(
            method=method, model=model, rates=rates, encoder=encoder, inner_steps=2, tasks_per_batch=per_batch
        ).answer(tasks)

    tasks = [ragged_tasks[1], ragged_tasks[0], ragged_tasks[1]]
    together, apart = answers(tasks, 3), answers(tasks, 1)
    assert together.texts == apart.texts == [answers([task], 1).texts[0] for task in tasks]
    torch.testing.assert_close(together.nll, apart.nll)
    torch.testing.assert_close(together.inner_losses, apart.inner_losses)
    assert together.inner_losses.shape == ((3, 3) if method == "reckoning" else (0, 3))


def test_reckoning_answers_from_its_facts_and_no_facts_does_not(ragged_tasks, encoder, float64):
    model = MODELS["gpt2"](len(encoder.tokenizer))
    rates = InnerRates(layer_names(model), 2, 0.2)
    question = ragged_tasks[0].questions
    tasks = [Task(facts=("a is b",), questions=question), Task(facts=("g is f",), questions=question)]
    for method, differ in (("reckoning", True), ("in_context", True), ("no_facts", False)):
        nll = Answerer(method=method, model=model, rates=rates, encoder=encoder, inner_steps=2).answer(tasks).nll
        assert ((nll[0] - nll[1]).abs() > 1e-6).item() is differ


def test_more_inner_steps_lower_the_loss_of_the_facts(ragged_tasks, encoder):
    model = MODELS["gpt2"](len(encoder.tokenizer))
    rates = InnerRates(layer_names(model), 2, 0.05)
    losses = Answerer(method="reckoning", model=model, rates=rates, encoder=encoder, inner_steps=6).answer(ragged_tasks)
    assert (losses.inner_losses.diff(dim=0) < 0).all()
    assert losses.inner_losses.shape == (7, 2)


def test_stored_tasks_visit_every_task_once_an_epoch_in_another_order():
    tasks = tasks_with_hops(*range(2, 9))
    source = StoredTasks(tasks=tasks, seed=4)
    epochs = [[task.questions[0].hops for task in source.draw(step, 7)] for step in range(3)]
    assert all(sorted(epoch) == list(range(2, 9)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    assert source.draw(1, 7) == StoredTasks(tasks=tasks, seed=4).draw(1, 7)
    assert source.draw(1, 7) != StoredTasks(tasks=tasks, seed=5).draw(1, 7)
