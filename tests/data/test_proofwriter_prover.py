"""The prover against the plain oracle, on random theories; some of them contradict themselves."""

import itertools
import random
from collections import Counter

import pytest
from proofwriter_oracle import ENTITIES, depths, each_is_looked_for, random_literal, random_theories

from reckoning_betty.data.proofwriter.logic import VARIABLE, Literal, Rule, literals_of
from reckoning_betty.data.proofwriter.parsing import parse, parse_fact
from reckoning_betty.data.proofwriter.prover import Prover

HYPOTHESES = [
    literal
    for subject in ENTITIES
    for positive in (True, False)
    for literal in (
        *(Literal(subject, attribute, "", positive) for attribute in ("red", "kind", "cold", "big")),
        *(Literal(subject, verb, object_, positive) for verb in ("like", "chase") for object_ in ENTITIES),
    )
]


def part(theory, verdict):
    return [theory[place] for place in verdict.places]


def judged(count, seed):
    for theory in random_theories(count, seed):
        prover = Prover(theory)
        for hypothesis in HYPOTHESES:
            yield theory, hypothesis, prover.judge(hypothesis)


def test_labels_and_depths():
    seen = Counter()
    for theory in random_theories(200):
        prover, found = Prover(theory), depths(theory)
        assert {literal: proof.depth for literal, proof in prover.known.items()} == found
        assert prover.is_consistent == (not any(literal.negation in found for literal in found))
        for hypothesis in HYPOTHESES:
            for_it, against = found.get(hypothesis, 99), found.get(hypothesis.negation, 99)
            label = "unknown" if for_it == against == 99 else "true" if for_it <= against else "false"
            verdict = prover.judge(hypothesis)
            assert verdict.label == label
            if label != "unknown":
                assert verdict.depth == min(for_it, against)
            seen[label, verdict.depth] += 1
    assert min(seen[label, depth] for label in ("true", "false", "unknown") for depth in (0, 1, 2)) > 5


def test_relevant_sentences_are_a_proof_that_needs_each_of_them():
    """Without one of them the proof is gone; in few cases a deeper one is left, by a rule used twice."""
    losses = Counter()
    for theory, hypothesis, verdict in judged(80, seed=1):
        if verdict.label == "unknown":
            continue
        proved = hypothesis if verdict.label == "true" else hypothesis.negation
        relevant = part(theory, verdict)
        assert depths(relevant)[proved] == verdict.depth
        for place in range(len(relevant)):
            left = depths(relevant[:place] + relevant[place + 1 :]).get(proved)
            assert left is None or left > verdict.depth
            losses["deeper" if left else "unknown"] += 1
    assert losses["unknown"] > 500
    assert losses["deeper"] < 0.01 * losses["unknown"]


def test_a_search_says_a_rule_before_what_its_premises_follow_from():
    a, b, c, d = (Literal("e", name, "", True) for name in "abcd")
    theory = [Rule((a,), c), b, Rule((c, b), d), a]
    assert Prover(theory).search(d, 0b1111) == (2, 0, 3, 1)
    assert Prover(theory).search(d.negation, 0b1111) == (2, 0, 3, 1)


def test_a_search_says_what_is_looked_for_by_then():
    """And leaves nothing out."""
    longest = 0
    for theory, hypothesis, verdict in judged(80, seed=1):
        order = Prover(theory).search(hypothesis, verdict.relevant)
        assert sorted(order) == list(verdict.places)
        assert each_is_looked_for([theory[place] for place in order], hypothesis)
        longest = max(longest, verdict.depth)
    assert longest > 1


def test_no_other_sentence_can_matter_to_an_unknown_hypothesis():
    """Whatever is added to the theory: what the failed search touched decides as all of it does."""
    rng = random.Random(2)
    decided = 0
    for theory, hypothesis, verdict in itertools.islice(judged(200, seed=3), 0, None, 7):
        if verdict.label != "unknown":
            continue
        for _ in range(3):
            added = [random_literal(rng) for _ in range(4)]
            both = (hypothesis, hypothesis.negation)
            whole, touched = depths([*theory, *added]), depths([*part(theory, verdict), *added])
            assert [end in whole for end in both] == [end in touched for end in both]
            decided += any(end in whole and end not in added for end in both)
    assert decided > 20


def fits(wanted, concluded):
    general = VARIABLE in (wanted.subject, concluded.subject)
    return wanted[1:] == concluded[1:] and (general or wanted.subject == concluded.subject)


def test_a_failed_search_touches_nothing_idle():
    """Every sentence of it gives a premise of a rule of it, or would conclude the hypothesis or its negation."""
    touched = 0
    for theory, hypothesis, verdict in judged(100, seed=4):
        if verdict.label != "unknown":
            continue
        relevant = part(theory, verdict)
        wanted = [premise for sentence in relevant if isinstance(sentence, Rule) for premise in sentence.premises]
        for sentence in relevant:
            end = literals_of(sentence)[-1]
            asked = (*wanted, hypothesis, hypothesis.negation) if isinstance(sentence, Rule) else wanted
            assert any(fits(goal, end) for goal in asked)
        touched += len(relevant)
    assert touched > 1000


THEORY = """
Bob is red. Bob is not big. The cat likes Bob. Dave is young. If someone is red then they are kind.
If someone is kind and not big then they are cold. If something likes Bob and Dave is young then Dave is not rough.
If someone is cold and rough then they are nice. All smart people are rough. If the dog is red then the dog is smart.
"""


@pytest.mark.parametrize(
    ("hypothesis", "label", "depth", "relevant"),
    [
        ("Bob is red.", "true", 0, (0,)),
        ("Bob is big.", "false", 0, (1,)),
        ("Bob is not kind.", "false", 1, (0, 4)),
        ("Bob is cold.", "true", 2, (0, 1, 4, 5)),
        ("Dave is rough.", "false", 1, (2, 3, 6)),
        ("Bob is nice.", "unknown", 3, (0, 1, 4, 5, 7, 8)),
        ("Dave is not cold.", "unknown", 2, (4, 5)),
        ("The dog is rough.", "unknown", 2, (8, 9)),
        ("Bob is quiet.", "unknown", 0, ()),
        ("Eve is nice.", "unknown", 3, (4, 5, 7, 8)),
    ],
)
def test_by_hand(hypothesis, label, depth, relevant):
    theory = [parse(f"{sentence}.") for line in THEORY.split("\n") for sentence in line.split(".") if sentence.strip()]
    verdict = Prover(theory).judge(parse_fact(hypothesis))
    assert (verdict.label, verdict.depth, verdict.places) == (label, depth, relevant)


def test_the_shallower_side_of_a_contradiction_counts():
    prover = Prover([parse(text) for text in ("Bob is red.", "If Bob is red then Bob is not red.")])
    assert not prover.is_consistent
    assert prover.judge(parse_fact("Bob is red.")).label == "true"
    assert prover.judge(parse_fact("Bob is not red.")).label == "false"
