"""Generated stories, judged from their text alone by a reader that knows nothing of how they were made."""

import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from reckoning_betty.data.clutrr import ClutrrGenerator, compose, words
from reckoning_betty.data.clutrr.kinship import DERIVABLE, FEMALE, GENDER, MALE, RELATIONS
from reckoning_betty.data.clutrr.names import NAMES, name_pools
from reckoning_betty.data.clutrr.text import PRONOUNS, SENTENCES
from reckoning_betty.errors import UserError

NOISES = ("none", "supporting", "irrelevant", "disconnected")
FACT = re.compile(r"(\w+) is the ([\w-]+) of (\w+) \.")
QUESTION = re.compile(r"How is (\w+) related to (\w+) \?")


def sentence_pattern(template, own):
    return re.compile(
        re.escape(template.format(x="XX", y="YY", **own)).replace("XX", r"(?P<x>\w+)").replace("YY", r"(?P<y>\w+)")
    )


SPOKEN = [
    (word, gender, sentence_pattern(template, own))
    for word, templates in SENTENCES.items()
    for template in templates
    for gender, own in PRONOUNS.items()
]


def triple(fact):
    """Read a fact of either form back."""
    if match := FACT.fullmatch(fact):
        return match[3], match[2], match[1]
    found = {(match["x"], word, match["y"]) for word, _, pattern in SPOKEN if (match := pattern.fullmatch(fact))}
    assert len(found) == 1, fact
    return found.pop()


def asked(question):
    match = QUESTION.fullmatch(question.text)
    return match[2], match[1]


def closure(triples):
    """Everything that the rules give, applied to the facts until nothing new comes."""
    known = set(triples)
    while True:
        new = {
            (x, r, y)
            for (x, r1, z), (z2, r2, y) in itertools.product(known, known)
            if z == z2 and x != y and (r := compose(r1, r2))
        } - known
        if not new:
            return known
        known |= new


def check(task, hops):
    """The answers follow, alone, from all facts and from the relevant ones; those are a chain that needs them all."""
    triples = [triple(fact) for fact in task.facts]
    everything = closure(triples)
    assert task.questions[0].hops == hops
    for question in task.questions:
        a, b = asked(question)
        assert {r for x, r, y in everything if (x, y) == (a, b)} == {question.answer}
        chain = [triples[place] for place in question.relevant]
        assert len(chain) == question.hops == len(set(question.relevant)) >= 2
        assert (a, question.answer, b) in closure(chain)
        following = {x: y for x, _, y in chain}
        walk = [a]
        while walk[-1] in following:
            walk.append(following[walk[-1]])
        assert walk[-1] == b
        assert len(walk) == len(set(walk)) == question.hops + 1
    return triples


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("hops", [2, 3, 6, 10])
def test_answers_follow_from_the_facts(noise, hops):
    source = ClutrrGenerator(hops=(hops,), noise=noise, questions_per_task=4, seed=3)
    for task in source.draw(0, 25):
        check(task, hops)


def test_sentences_tell_the_same_as_symbols():
    source = ClutrrGenerator(hops=(2, 4), noise="supporting", form="sentences", questions_per_task=2)
    for task in source.draw(5, 40):
        for x, word, _ in check(task, task.questions[0].hops):
            assert (x in NAMES[MALE]) != (x in NAMES[FEMALE])
            assert (word == "wife") <= (x in NAMES[MALE])
            assert (word == "husband") <= (x in NAMES[FEMALE])


def test_pronouns_are_those_of_the_right_person():
    """In every sentence with a word for X (his, her...), it is the word for X's gender."""
    told = Counter()
    for task in ClutrrGenerator(hops=(5,), form="sentences").draw(0, 60):
        for fact in task.facts:
            matching = [(gender, match["x"]) for _, gender, pattern in SPOKEN if (match := pattern.fullmatch(fact))]
            if len(matching) == 1:
                gender, x = matching[0]
                told[gender] += 1
                assert x in NAMES[gender]
    assert min(told.values()) > 50


def test_every_relation_has_sentences_of_its_own():
    assert set(SENTENCES) == set(RELATIONS)
    everything = [template for templates in SENTENCES.values() for template in templates]
    assert all(len(set(templates)) >= 3 for templates in SENTENCES.values())
    assert len(everything) == len(set(everything))


def test_people_bear_names_of_their_gender():
    for task in ClutrrGenerator(hops=(4,)).draw(0, 100):
        for _, word, y in map(triple, task.facts):
            assert y in NAMES[GENDER[word]]


@pytest.mark.parametrize("hops", [2, 5])
def test_noise_has_the_shape_of_its_kind(hops):
    for noise in NOISES:
        counts = Counter()
        for task in ClutrrGenerator(hops=(hops,), noise=noise).draw(2, 60):
            question = task.questions[0]
            triples = [triple(fact) for fact in task.facts]
            chain = [triples[place] for place in question.relevant]
            extra = [t for place, t in enumerate(triples) if place not in question.relevant]
            core = {person for x, _, y in chain for person in (x, y)}
            outside = {person for x, _, y in extra for person in (x, y)} - core
            counts[len(extra)] += 1
            if noise == "supporting":
                (new,) = outside
                ((before, r1, _),) = [t for t in extra if t[2] == new]
                ((_, r2, after),) = [t for t in extra if t[0] == new]
                assert (before, compose(r1, r2), after) in chain
            elif noise == "irrelevant":
                assert all(x in core and y not in core for x, _, y in extra)
                assert len(outside) == len(extra)
            elif noise == "disconnected":
                assert outside == {person for x, _, y in extra for person in (x, y)}
        expected = {"none": {0}, "supporting": {2}, "irrelevant": {1, 2}, "disconnected": {1, 2}}[noise]
        assert set(counts) == expected


def test_order_of_facts_gives_nothing_away():
    """Shuffled: every place is about as often relevant as another, and chains are rarely told in order."""
    tasks = ClutrrGenerator(hops=(3,), noise="supporting").draw(0, 600)
    places = Counter(place for task in tasks for place in task.questions[0].relevant)
    assert set(places) == {0, 1, 2, 3, 4}
    assert all(abs(n / 600 - 0.6) < 0.1 for n in places.values())


def test_answers_are_balanced():
    answers = Counter(task.questions[0].answer for task in ClutrrGenerator(hops=(2, 8)).draw(0, 1800))
    assert set(answers) == set(DERIVABLE)
    assert all(60 <= n <= 140 for n in answers.values()), answers


def test_further_questions():
    one = ClutrrGenerator(hops=(6,), questions_per_task=1).draw(0, 30)
    many = ClutrrGenerator(hops=(6,), questions_per_task=5).draw(0, 30)
    assert {len(task.questions) for task in one} == {1}
    assert {len(task.questions) for task in many} == {5}
    assert {q.hops for task in many for q in task.questions[1:]} == {2, 3, 4, 5}
    assert all(len({q.text for q in task.questions}) == 5 for task in many)
    assert [task.questions[0] for task in one] == [task.questions[0] for task in many]
    assert {len(t.questions) for t in ClutrrGenerator(hops=(2,), questions_per_task=5).draw(0, 30)} == {1}


FAMILIES = {"hops": (2, 3), "families": 4, "num_names": 32}


def families_of(task):
    """The facts of each story, found by who is connected with whom, in the order of their first facts."""
    found: list[list[tuple[str, str, str]]] = []
    for new in map(triple, task.facts):
        joined = [facts for facts in found if {new[0], new[2]} & {person for x, _, y in facts for person in (x, y)}]
        found = [facts for facts in found if facts not in joined]
        found.append([fact for facts in joined for fact in facts] + [new])
    return found


@pytest.mark.parametrize("noise", ["none", "supporting", "irrelevant"])
def test_families_are_told_together(noise):
    source = ClutrrGenerator(**FAMILIES | {"num_names": 60}, noise=noise, questions_per_task=8, seed=3)
    first = Counter()
    for task in [*source.draw(0, 40), *source.stories("test", 3, 20)]:
        check(task, task.questions[0].hops)
        families = families_of(task)
        assert len(families) == 4
        people = [{person for x, _, y in facts for person in (x, y)} for facts in families]
        about = [next(n for n, group in enumerate(people) if set(asked(q)) <= group) for q in task.questions]
        first[about[0]] += 1
        assert len(set(about)) > 1
    assert len(first) == 4  # where the facts stand does not tell which family is asked about


def test_what_is_told_does_not_tell_what_is_asked():
    """Any of the stories could be the one asked about: their lengths and relations have one distribution."""
    tasks = ClutrrGenerator(**FAMILIES, seed=1).draw(0, 600)
    asked_about, others = Counter(), Counter()
    for task in tasks:
        pair = asked(task.questions[0])
        for facts in families_of(task):
            is_asked = any(set(pair) & {x, y} for x, _, y in facts)
            for _, word, _ in facts:
                (asked_about if is_asked else others)[word] += 1
            (asked_about if is_asked else others)[len(facts)] += 1
    assert others[2] + others[3] == 3 * 600 == 3 * (asked_about[2] + asked_about[3])
    for kind in (2, 3, "brother", "daughter", "mother"):
        assert abs(others[kind] / 3 - asked_about[kind]) < 5 * others[kind] ** 0.5, kind


def test_told_together_stories_are_of_one_split():
    """The others are asked about in training too, so that they are kept apart like those that the test asks about."""
    options = {"hops": (2,), "families": 3, "num_names": 18}

    def stories(tasks):
        return {tuple(sorted(facts)) for task in tasks for facts in families_of(task)}

    def trained(steps):
        return stories(t for step in steps for t in ClutrrGenerator(**options, seed=step).draw(step, 1000))

    train = trained(range(3))
    for split in ("validation", "test"):
        held_out = stories(ClutrrGenerator(**options, seed=7).stories(split, 2, 200))
        assert len(held_out) > 400
        assert not train & held_out
    again = trained((7,))
    assert len(train & again) > len(again) / 20  # of one split the same ones do come up again


def story(task):
    return (*sorted(task.facts), task.questions[0].text)


def test_splits_share_no_story():
    """With eight names there are few stories of two hops, so that drawing finds the same ones again and again."""
    small = {"hops": (2,), "num_names": 8}
    train = {story(task) for step in range(4) for task in ClutrrGenerator(**small, seed=step).draw(step, 1000)}
    held_out = {
        split: [story(t) for seed in (7, 8) for t in ClutrrGenerator(**small, seed=seed).stories(split, 2, 300)]
        for split in ("validation", "test")
    }
    assert len(train) > 1500
    for stories in held_out.values():
        assert len(set(stories[:300])) == len(set(stories[300:])) == 300
        assert not train & set(stories)
    assert not set(held_out["validation"]) & set(held_out["test"])
    # The check above means something only if the same stories do come up with another seed.
    assert set(held_out["test"][:300]) & set(held_out["test"][300:])


def test_draws_depend_on_seed_and_step_only():
    source = ClutrrGenerator(hops=(2, 3), noise="irrelevant", form="sentences")
    later = source.draw(9, 6)
    source.draw(0, 3)
    assert source.draw(9, 6) == later
    assert source.draw(9, 4) == later[:4]
    assert source.draw(8, 6) != later
    assert ClutrrGenerator(hops=(2, 3), noise="irrelevant", form="sentences", seed=1).draw(9, 6) != later
    assert source.stories("test", 3, 5) == source.stories("test", 3, 9)[:5]


def test_other_processes_draw_the_same():
    code = (
        "from reckoning_betty.data.clutrr import ClutrrGenerator as G; g = G(hops=(4,), noise='supporting', seed=5);"
        "print(g.draw(3, 3), g.stories('validation', 4, 3))"
    )
    root = str(Path(__file__).resolve().parents[2])
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    source = ClutrrGenerator(hops=(4,), noise="supporting", seed=5)
    assert said == {f"{source.draw(3, 3)} {source.stories('validation', 4, 3)}\n"}


def test_unseen_names():
    source = ClutrrGenerator(hops=(3,), num_names=12, unseen_names=True)
    splits = source.splits(validation=20, test=20, test_hops=(2, 4))

    def names(tasks):
        return {person for task in tasks for x, _, y in map(triple, task.facts) for person in (x, y)}

    assert [task.questions[0].hops for task in splits.test] == [2] * 20 + [4] * 20
    assert len(names(splits.test)) == 12
    assert not names(splits.test) & names(source.draw(0, 100))
    assert names(splits.validation) <= names(source.draw(0, 100))
    assert names(splits.test) <= set(splits.vocabulary)


@pytest.mark.parametrize("form", ["symbolic", "sentences"])
def test_vocabulary_has_every_word(form):
    source = ClutrrGenerator(hops=(2, 6), form=form, noise="disconnected", unseen_names=True, questions_per_task=3)
    splits = source.splits(validation=30, test=30)
    used = set(RELATIONS)
    for task in [*source.draw(0, 1500), *splits.validation, *splits.test]:
        for line in (*task.facts, *(text for q in task.questions for text in (q.text, q.answer))):
            used |= set(words(line))
    vocabulary = splits.vocabulary
    assert vocabulary == sorted(set(vocabulary))
    assert used <= set(vocabulary)
    names = {name for pool in name_pools(20, unseen=True) for group in pool.values() for name in group}
    assert len(set(vocabulary) - used - names) <= 8
    assert "father-in-law" in vocabulary


def test_words():
    assert words("Ann 's son-in-law isn't Bob's .") == ["Ann", "'s", "son-in-law", "isn", "'", "t", "Bob", "'s", "."]


def test_names_are_no_words_of_the_sentences():
    spoken = {word.lower() for group in SENTENCES.values() for template in group for word in words(template)}
    every = [name for group in NAMES.values() for name in group]
    assert len(every) == len(set(every)) == 120
    assert not spoken & {name.lower() for name in every}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hops": (1,)}, "hops is 1, but it must lie between 2 and 10"),
        ({"hops": (2, 11)}, "hops is 11"),
        ({"hops": ()}, "hops is empty"),
        ({"noise": "loud"}, "noise is 'loud', but it must be one of none, supporting, irrelevant, disconnected"),
        ({"form": "prose"}, "form is 'prose'"),
        ({"questions_per_task": 0}, "questions_per_task is 0"),
        ({"hops": (10,), "num_names": 10}, "can have 11 people; give num_names=11"),
        ({"hops": (10,), "num_names": 12, "noise": "irrelevant"}, "give num_names=13"),
        ({"families": 0}, "families is 0, but it must be 1 or more"),
        ({"hops": (2, 4), "families": 3, "num_names": 29}, "and families=3 can have 15 people; give num_names=30"),
        ({"num_names": 121}, "between 2 and 120"),
        ({"num_names": 61, "unseen_names": True}, "between 2 and 60 while the test has names of its own"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        ClutrrGenerator(**options)


@pytest.mark.parametrize("noise", NOISES)
def test_smallest_pool_is_enough(noise):
    people = 11 + {"none": 0, "supporting": 1, "irrelevant": 2, "disconnected": 3}[noise]
    for task in ClutrrGenerator(hops=(10,), num_names=people, noise=noise).draw(0, 5):
        check(task, 10)


def test_more_stories_than_there_are(monkeypatch):
    monkeypatch.setattr("reckoning_betty.data.clutrr.generator.FRUITLESS_DRAWS", 500)
    source = ClutrrGenerator(hops=(2,), num_names=3)
    with pytest.raises(UserError, match=r"400 different test stories of 2 hops .* only \d+ were found"):
        source.stories("test", 2, 400)
    with pytest.raises(UserError, match="split is 'exam'"):
        source.stories("exam", 2, 1)
    with pytest.raises(UserError, match="hops is 12"):
        source.stories("test", 12, 1)
    assert source.stories("test", 2, 0) == []


def test_a_number_of_hops_given_twice_is_drawn_twice_as_often_and_validated_once():
    source = ClutrrGenerator(hops=(2, 3, 3))
    drawn = [task.questions[0].hops for step in range(40) for task in source.draw(step, 15)]
    assert 0.6 < drawn.count(3) / len(drawn) < 0.73
    splits = source.splits(validation=5, test=5)
    assert [task.questions[0].hops for task in splits.validation] == [2] * 5 + [3] * 5
