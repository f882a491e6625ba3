"""Random letters: what is asked has the answer that counting gives, and the paper's sizes are met."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.letters import LETTERS, LetterGenerator, vocabulary
from reckoning_betty.errors import UserError
from reckoning_betty.models.word_tokenizer import word_tokenizer

SMALL = LetterGenerator(facts=3, letters_per_fact=4, questions_per_task=26)


def counts_of(task):
    return Counter(letter for fact in task.facts for letter in fact.split(" "))


def check(task):
    """Count anew, letter by letter."""
    counts = counts_of(task)
    first, *others = task.questions
    assert first.text == "What is the most frequent letter ?"
    assert [letter for letter in counts if counts[letter] == max(counts.values())] == [first.answer]
    pairs = []
    for question in others:
        one, other = re.fullmatch("Is ([a-z]) more frequent than ([a-z]) [?]", question.text).groups()
        assert counts[one] != counts[other]
        assert question.answer == ("yes" if counts[one] > counts[other] else "no")
        pairs.append(frozenset((one, other)))
    assert len(set(pairs)) == len(pairs)
    for question in task.questions:
        assert (question.hops, question.relevant) == (len(task.facts), tuple(range(len(task.facts))))


@pytest.mark.parametrize("size", [(3, 4), (1, 2), (8, 127)])
def test_answers_are_what_counting_gives(size):
    facts, letters = size
    generator = LetterGenerator(facts=facts, letters_per_fact=letters, questions_per_task=26)
    for task in generator.draw(0, 50):
        assert [len(fact.split(" ")) for fact in task.facts] == [letters] * facts
        assert len(task.questions) == 26
        check(task)


def test_the_paper_counts_1024_tokens():
    tasks = LetterGenerator(questions_per_task=18).draw(0, 3)
    encoder = TaskEncoder(word_tokenizer(vocabulary()), Prompts(), max_tokens=1024)
    facts, rows = encoder.knowledge(tasks).facts, encoder.in_context(tasks, recall=False).answers
    assert facts.tokens.shape == (3, 8, 127)
    assert rows.tokens.shape == (3, 18, 1024 + 1)  # the end of the answer is predicted, and not read
    assert (rows.tokens != encoder.pad).all()  # every question and answer is as long as the paper's
    assert encoder.questions(tasks).tokens.shape == (3, 18, 7 + 1 + 1)
    assert not (rows.tokens == encoder.tokenizer.unk_token_id).any()


def test_answers_are_balanced():
    tasks = SMALL.draw(0, 400)
    said = Counter(question.answer for task in tasks for question in task.questions[1:])
    assert 0.48 < said["yes"] / sum(said.values()) < 0.52
    most = Counter(task.questions[0].answer for task in tasks)
    assert set(most) == set(LETTERS)
    assert max(most.values()) < 40


def test_a_step_s_tasks_depend_on_seed_step_and_place_alone():
    assert SMALL.draw(5, 4)[:2] == SMALL.draw(5, 2)
    assert SMALL.draw(5, 4) == replace(SMALL).draw(5, 4)
    tasks = [*SMALL.draw(5, 4), *SMALL.draw(6, 4), *replace(SMALL, seed=1).draw(5, 4)]
    assert len({task.facts for task in tasks}) == 12


def test_splits_have_no_facts_in_common():
    """Facts so short that 8,000 draws would meet about 14 of the 400 held out by chance."""
    generator = LetterGenerator(facts=2, letters_per_fact=2)
    splits = generator.splits(validation=200, test=200)
    held_out = [{frozenset(Counter(task.facts).items()) for task in part} for part in (splits.validation, splits.test)]
    assert [len(part) for part in held_out] == [200, 200]  # in another order they would be the same
    drawn = {frozenset(Counter(task.facts).items()) for seed in (0, 1) for task in draws(generator, seed)}
    assert len(drawn) > 3000
    assert not held_out[0] & held_out[1]
    assert not drawn & (held_out[0] | held_out[1])


def draws(generator, seed):
    return replace(generator, seed=seed).draw(0, 4000)


def test_fixed_sets_do_not_depend_on_their_size():
    assert SMALL.tasks("test", 3) == SMALL.tasks("test", 9)[:3]
    assert SMALL.tasks("test", 3) != replace(SMALL, seed=1).tasks("test", 3)
    for task in SMALL.tasks("validation", 9):
        check(task)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"facts": 0}, "data.facts=0"),
        ({"letters_per_fact": 1}, "data.letters_per_fact=1 .* at least 2"),
        ({"questions_per_task": 0}, "data.questions_per_task=0 .* 1 to 26"),
        ({"questions_per_task": 27}, "data.questions_per_task=27 .* 1 to 26"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(UserError, match=message):
        LetterGenerator(**options)


def test_more_tasks_than_there_are():
    with pytest.raises(UserError, match=r"100 different test tasks .* only \d were found"):
        LetterGenerator(facts=1, letters_per_fact=2).tasks("test", 100)
