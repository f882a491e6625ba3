import pytest

from reckoning_betty.data.clutrr import ClutrrGenerator
from reckoning_betty.data.sanity import SeenBy, as_seen_by
from reckoning_betty.errors import UserError

SOURCE = ClutrrGenerator(hops=(2,), seed=3)


def test_other_methods_get_the_tasks_as_they_are():
    tasks = SOURCE.draw(0, 3)
    assert as_seen_by("reckoning", tasks) == as_seen_by("no_facts", tasks) == tasks


def test_no_question_keeps_facts_and_answers():
    tasks = SOURCE.draw(0, 3)
    for task, seen in zip(tasks, SeenBy("no_question", SOURCE).draw(0, 3), strict=True):
        assert seen.facts == task.facts
        assert seen.questions[0].text == ""
        assert seen.questions[0].answer == task.questions[0].answer


@pytest.mark.parametrize("number", [2, 5])
def test_random_facts_are_those_of_another_task(number):
    tasks = SOURCE.draw(0, number)
    seen = as_seen_by("random_facts", tasks)
    for task, altered in zip(tasks, seen, strict=True):
        assert altered.questions[0].text == task.questions[0].text
        assert altered.questions[0].relevant == ()
        assert altered.facts != task.facts
    assert sorted(task.facts for task in seen) == sorted(task.facts for task in tasks)


def test_training_draws_random_facts_from_other_steps():
    source = SeenBy("random_facts", SOURCE)
    (task,), (seen,) = SOURCE.draw(7, 1), source.draw(7, 1)
    assert seen.facts != task.facts
    assert seen.questions[0].text == task.questions[0].text
    assert source.draw(7, 1) == [seen]


def test_one_task_has_no_other_facts():
    with pytest.raises(
        UserError, match=r"^random_facts gives each task the facts of another one: take 2 tasks or more"
    ):
        as_seen_by("random_facts", SOURCE.draw(0, 1))
