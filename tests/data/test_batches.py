"""Batches that are prepared ahead, and batches of tasks of like size."""

import threading

import pytest

from reckoning_betty.data.buckets import Bucketed
from reckoning_betty.data.prefetch import Prefetch
from reckoning_betty.data.task import Question, StoredTasks, Task


def test_steps_come_as_asked_for_and_the_next_is_made_meanwhile():
    made, ready = [], threading.Event()

    def make(step):
        made.append((step, threading.current_thread() is threading.main_thread()))
        if step == 1:
            ready.set()
        return step * 10

    batches = Prefetch(make)
    assert batches.get(0) == 0
    assert ready.wait(5)
    assert batches.get(1) == 10
    assert batches.get(7) == 70  # not the one ahead: made at once
    assert batches.get(8) == 80
    assert made[:2] == [(0, True), (1, False)]
    assert (7, True) in made


def test_an_error_comes_when_its_step_is_asked_for():
    def make(step):
        if step == 1:
            raise ValueError("no step 1")
        return step

    batches = Prefetch(make)
    assert batches.get(0) == 0
    with pytest.raises(ValueError, match="no step 1"):
        batches.get(1)


def source():
    question = Question(text="?", answer="a", hops=1, relevant=(0,))
    tasks = [Task(facts=("f",) * (1 + i % 5), questions=(question,), identifier=str(i)) for i in range(40)]
    return StoredTasks(tasks=tasks, seed=3)


def names(tasks):
    return sorted(task.identifier for task in tasks)


def padding(tasks):
    return sum(max(len(t.facts) for t in tasks) - len(task.facts) for task in tasks)


def test_a_window_holds_the_same_tasks_in_batches_of_like_size():
    bucketed = Bucketed(source(), window=4, seed=5)
    for window in (0, 1):
        steps = range(4 * window, 4 * window + 4)
        plain = [source().draw(step, 5) for step in steps]
        sorted_ = [bucketed.draw(step, 5) for step in steps]
        assert names(task for batch in plain for task in batch) == names(task for batch in sorted_ for task in batch)
        assert sum(map(padding, sorted_)) < sum(map(padding, plain)) / 2


def test_a_step_is_the_same_whatever_was_drawn_before():
    one, other = Bucketed(source(), window=3, seed=5), Bucketed(source(), window=3, seed=5)
    in_order = [names(one.draw(step, 4)) for step in range(9)]
    assert [names(other.draw(step, 4)) for step in reversed(range(9))] == in_order[::-1]


def test_windows_have_orders_of_their_own():
    bucketed = Bucketed(source(), window=4, seed=5)
    orders = {tuple(len(bucketed.draw(4 * w + i, 5)[0].facts) for i in range(4)) for w in range(6)}
    assert len(orders) > 1
