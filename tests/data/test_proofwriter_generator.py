"""Generated tasks, judged from their text alone: read back and proved anew."""

import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from proofwriter_oracle import each_is_looked_for

from reckoning_betty.data.proofwriter import ProofWriterGenerator
from reckoning_betty.data.proofwriter.logic import Rule, entities_of
from reckoning_betty.data.proofwriter.outlines import make_outline, smallest_size
from reckoning_betty.data.proofwriter.parsing import parse, parse_fact
from reckoning_betty.data.proofwriter.prover import Prover
from reckoning_betty.data.proofwriter.structures import matched_structures
from reckoning_betty.data.proofwriter.words import ATTRIBUTES, VERBS, WORD
from reckoning_betty.errors import UserError

SORTS = [
    (kind, depth)
    for kind in ("attributes", "relations")
    for depth in range(1, 6)
    if smallest_size(kind, depth) is not None
]


def check(task, depth):
    """The answers follow from the facts that are told, and all relevant positions are those of the prover."""
    theory = [parse(fact) for fact in task.facts]
    prover = Prover(theory)
    assert prover.is_consistent
    for rule in theory:  # one that contradicts itself would tell by itself that nothing follows from it
        premises = rule.premises if isinstance(rule, Rule) else ()
        assert not {premise.negation for premise in premises} & set(premises)
    assert task.questions[0].hops == depth
    assert len(task.questions[0].relevant) > 1
    for question in task.questions:
        verdict = prover.judge(parse_fact(question.text))
        assert verdict.label == question.answer
        assert verdict.depth == question.hops
        relevant = [theory[place] for place in question.relevant]
        assert Prover(relevant).judge(parse_fact(question.text)).label == question.answer
        for place in range(len(relevant)) if question.answer != "unknown" else ():
            rest = Prover([*relevant[:place], *relevant[place + 1 :]]).judge(parse_fact(question.text))
            assert question is not task.questions[0] or rest.label == "unknown"
        if question.answer == "unknown":
            assert tuple(sorted(question.relevant)) == verdict.places
        assert each_is_looked_for(relevant, parse_fact(question.text))
    return theory


@pytest.mark.parametrize("kinds", [("attributes",), ("relations",), ("attributes", "relations")])
@pytest.mark.parametrize("negation", ["with", "without", "mixed"])
def test_answers_follow_from_the_facts(kinds, negation):
    depth = 3 if kinds == ("attributes",) else 1
    source = ProofWriterGenerator(
        depths=(depth,), kinds=kinds, negation=negation, distractors="none,3,all", questions_per_task=4, sentences=10
    )
    sizes = Counter()
    for task in source.draw(0, 45):
        theory = check(task, depth)
        sizes[len(theory) - len(task.questions[0].relevant)] += 1
        assert negation != "without" or not any("not" in fact.split() for fact in task.facts)
        animals = any(entity.startswith("the ") for entity in entities_of(theory))
        assert animals == (kinds == ("relations",)) or len(kinds) == 2
    assert sizes[0] > 5
    assert sizes[3] > 5
    assert max(sizes) >= 5


@pytest.mark.parametrize("depth", [2, 4, 5])
def test_depths(depth):
    for task in ProofWriterGenerator(depths=(depth,), distractors="2").draw(1, 12):
        theory = check(task, depth)
        assert sum(isinstance(sentence, Rule) for sentence in theory) >= depth


def test_all_distractors_are_the_whole_theory():
    for task in ProofWriterGenerator(depths=(2,), distractors="all", sentences=11).draw(0, 10):
        assert len(task.facts) == 11


@pytest.mark.parametrize(("kind", "depth"), SORTS)
@pytest.mark.parametrize("negation", [True, False])
def test_smallest_theories(kind, depth, negation):
    """There are proofs and failing searches small enough for theories of the smallest size, and they look alike."""
    size = smallest_size(kind, depth)
    found = [group for group in matched_structures(kind, depth, negation) if 2 * len(group[0][0].sentences) <= size]
    assert found
    for proofs, failures in found:
        assert len({len(structure.sentences) for structure in (*proofs, *failures)}) == 1


def test_no_proof_of_depth_one_looks_like_a_failing_search_about_attributes():
    assert matched_structures("attributes", 1, negation=True) == []


def test_outlines_ask_two_questions_of_one_theory():
    outline = make_outline("relations", 2, True, 12, random.Random(1))
    assert len(outline.sentences) == 12
    assert (outline.proved.answer, outline.unknown.answer) == ("true", "unknown")
    assert outline.proved.hops == outline.unknown.hops == 2
    assert outline.proved.relevant.bit_count() == outline.unknown.relevant.bit_count()


def test_order_of_facts_gives_nothing_away():
    tasks = ProofWriterGenerator(depths=(2,), distractors="3").draw(0, 600)
    places = Counter(place for task in tasks for place in task.questions[0].relevant if len(task.facts) == 7)
    shares = [places[place] / places.total() for place in range(7)]
    assert all(abs(share - 1 / 7) < 0.04 for share in shares), shares


def test_further_questions():
    one = ProofWriterGenerator(depths=(3,), distractors="4", questions_per_task=1).draw(0, 40)
    many = ProofWriterGenerator(depths=(3,), distractors="4", questions_per_task=5).draw(0, 40)
    assert {len(task.questions) for task in one} == {1}
    assert max(len(task.questions) for task in many) == 5
    assert [task.facts for task in one] == [task.facts for task in many]
    for task in many:
        first, opposite, *others = [parse_fact(question.text) for question in task.questions]
        assert opposite == first.negation
        assert len({literal._replace(positive=True) for literal in (first, *others)}) == 1 + len(others)
    answers = Counter(question.answer for task in many for question in task.questions[2:])
    assert answers.total() > 60
    assert 0.2 < answers["unknown"] / answers.total() < 0.47


def test_splits_share_no_knowledge(monkeypatch):
    """Few words and names, so that drawing finds the same sentences again and again."""
    monkeypatch.setattr("reckoning_betty.data.proofwriter.outlines.ATTRIBUTES", ATTRIBUTES[:6])
    monkeypatch.setattr("reckoning_betty.data.proofwriter.generator.ATTRIBUTES", ATTRIBUTES[:6])
    monkeypatch.setattr("reckoning_betty.data.proofwriter.generator.VERBS", VERBS[:3])
    small = {"depths": (1,), "num_names": 4, "sentences": 6, "negation": "without"}

    def told(tasks):
        return [frozenset(map(parse, task.facts)) for task in tasks]

    train = set(told(task for seed in (101, 102) for task in ProofWriterGenerator(**small, seed=seed).draw(seed, 2500)))
    held_out = {
        split: [set(told(ProofWriterGenerator(**small, seed=seed).theories(split, 1, 150))) for seed in (103, 104)]
        for split in ("validation", "test")
    }
    assert all(len(theories) == 150 for pair in held_out.values() for theories in pair)
    for theories in (*held_out["validation"], *held_out["test"]):
        assert not train & theories
    validation, test = (set.union(*held_out[split]) for split in ("validation", "test"))
    assert not validation & test
    # The checks above mean something only if the same sentences do come up again, with other seeds too.
    assert len(train) < 4900
    assert len(test) < 300


def test_draws_depend_on_seed_and_step_only():
    source = ProofWriterGenerator(depths=(1, 3), distractors="none,all", questions_per_task=3)
    later = source.draw(9, 6)
    source.draw(0, 3)
    assert source.draw(9, 6) == later
    assert source.draw(9, 4) == later[:4]
    assert source.draw(8, 6) != later
    assert ProofWriterGenerator(depths=(1, 3), distractors="none,all", questions_per_task=3, seed=1).draw(9, 6) != later
    assert source.theories("test", 3, 5) == source.theories("test", 3, 8)[:5]


def test_other_processes_draw_the_same():
    code = (
        "from reckoning_betty.data.proofwriter import ProofWriterGenerator as G; "
        "g = G(depths=(2,), distractors='2', seed=5, questions_per_task=3); "
        "print(g.draw(3, 3), g.theories('test', 2, 3))"
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
    source = ProofWriterGenerator(depths=(2,), distractors="2", seed=5, questions_per_task=3)
    assert said == {f"{source.draw(3, 3)} {source.theories('test', 2, 3)}\n"}


def test_a_depth_given_twice_is_drawn_twice_as_often_and_validated_once():
    source = ProofWriterGenerator(depths=(1, 2, 2))
    drawn = [task.questions[0].hops for task in source.draw(0, 600)]
    assert 0.6 < drawn.count(2) / len(drawn) < 0.73
    splits = source.splits(validation=3, test=3, test_depths=(3,))
    assert [task.questions[0].hops for task in splits.validation] == [1] * 3 + [2] * 3
    assert [task.questions[0].hops for task in splits.test] == [3] * 3
    assert [task.questions[0].answer for task in splits.test] == ["true", "false", "unknown"]


def is_circular(task):
    """Whether what the first question asks for stands among the premises of its rules, all of which are relevant."""
    asked = parse_fact(task.questions[0].text)
    rules = [rule for fact in task.facts if isinstance(rule := parse(fact), Rule)]
    return any((p.predicate, p.object) == (asked.predicate, asked.object) for rule in rules for p in rule.premises)


@pytest.mark.parametrize("kind", ["attributes", "relations"])
def test_sizes_and_circular_searches_in_training(kind):
    options = {"depths": (2,), "kinds": (kind,), "sentences": 12, "seed": 3}
    as_they_come = ProofWriterGenerator(**options)
    wanted = ProofWriterGenerator(**options, relevant_sizes=(3, 5, 5), circular=0.5)
    tasks = wanted.draw(0, 400)
    for task in tasks[:40]:
        check(task, 2)
    sizes = Counter(len(task.facts) for task in tasks)
    assert set(sizes) == {3, 5}
    assert 0.58 < sizes[5] / 400 < 0.75
    unknown = [task for task in tasks if task.questions[0].answer == "unknown"]
    assert 0.57 < len(unknown) / 400 < 0.76  # half of all, and a third of the others
    assert sum(map(is_circular, unknown)) / len(unknown) > 0.68  # 0.75 of them and what comes by chance
    drawn = as_they_come.draw(0, 200)
    by_chance = [task for task in drawn if task.questions[0].answer == "unknown"]
    assert 0.05 < sum(map(is_circular, by_chance)) / len(by_chance) < 0.6
    assert {3, 4} < {len(task.facts) for task in drawn}
    for split in ("validation", "test"):  # the others are as they were
        assert wanted.theories(split, 2, 6) == as_they_come.theories(split, 2, 6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"circular": 1.5}, "circular is 1.5, but a share of the tasks lies between 0 and 1"),
        (
            {"circular": 0.1, "depths": (1, 2), "kinds": ("relations",)},
            "circular is 0.1 and depths has 1.*leave this depth out, or circular",
        ),
        ({"relevant_sizes": (9,)}, "relevant_sizes is 9, but for attributes at depth 2 .* must name one of 3, 4, 5"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        ProofWriterGenerator(**{"depths": (2,), "kinds": ("attributes",), "sentences": 10} | options)


def test_theories_that_are_not_found_are_told(monkeypatch):
    monkeypatch.setattr("reckoning_betty.data.proofwriter.generator.OUTLINES", 1)
    source = ProofWriterGenerator(depths=(2,), kinds=("attributes",), sentences=10, relevant_sizes=(3, 5), circular=1.0)
    with pytest.raises(UserError, match=r"about attributes .* [35] relevant sentences, circular, .* depth 2"):
        source.draw(0, 2)


def test_vocabulary_has_every_word():
    source = ProofWriterGenerator(depths=(1, 2, 3), distractors="all", questions_per_task=3, num_names=5)
    used = {"because"}
    for task in [*source.draw(0, 700), *source.theories("test", 2, 20)]:
        for line in (*task.facts, *(text for question in task.questions for text in (question.text, question.answer))):
            assert line.split() == WORD.findall(line)
            used |= set(line.split())
    vocabulary = source.vocabulary()
    assert vocabulary == sorted(set(vocabulary))
    assert used <= set(vocabulary)
    assert len(vocabulary) < 110


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (0,)}, "depths has 0, but proof depths must lie between 1 and 5"),
        ({"depths": (2, 6)}, "depths has 6"),
        ({"depths": ()}, "depths is empty"),
        ({"kinds": ()}, "kinds is empty"),
        ({"kinds": ("colours",)}, "kinds is 'colours', but it must be one of attributes, relations"),
        ({"kinds": ("attributes",), "depths": (1,)}, "start at depth 2; add relations to kinds"),
        ({"negation": "some"}, "negation is 'some', but it must be one of with, without, mixed"),
        ({"distractors": "few"}, "distractors is 'few', but it must be none, all, a number"),
        ({"distractors": "2,"}, "distractors is '2,'"),
        ({"distractors": "-1"}, "distractors is '-1'"),
        ({"test_distractors": "many"}, "distractors is 'many'"),
        ({"questions_per_task": 0}, "questions_per_task is 0, but it must lie between 1 and"),
        ({"sentences": 5}, "sentences is 5, but it must lie between 6 and 30"),
        ({"sentences": 10, "depths": (1, 5)}, "sentences is 10, but depth 5 needs 12 or more"),
        ({"num_names": 3}, "num_names is 3, but it must lie between 4 and 16"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        ProofWriterGenerator(**options)


def test_more_theories_than_there_are(monkeypatch):
    monkeypatch.setattr("reckoning_betty.data.proofwriter.generator.FRUITLESS_DRAWS", 1)
    source = ProofWriterGenerator(depths=(1,), num_names=4, sentences=6)
    with pytest.raises(UserError, match=r"3000 different test theories of depth 1 .* only \d+ were found"):
        source.theories("test", 1, 3000)
    with pytest.raises(UserError, match="split is 'exam'"):
        source.theories("exam", 1, 1)
    assert source.theories("test", 1, 0) == []
