"""Proofs, and searches for a proof that fail, which look alike: so many facts, rules and premises, entities and words.

Entities are e0, e1, ..., attributes a0, ..., verbs v0, ...; names and words come later. A structure is a rule for the
target, one for a premise of that, and so on ``depth`` times, with further premises on the way. In a proof these are
facts, conclusions of rules, or what another premise asks already. A failing one has a premise in their place that
nothing gives: something that the search came from, the opposite of what holds, or what holds of somebody else. (One
that nothing mentions would do as well, but then the word that stands there once would give it away.)
"""

import functools
import random
from typing import Literal as OneOf
from typing import NamedTuple

from reckoning_betty.data.proofwriter.logic import VARIABLE, Literal, Rule, Sentence, entities_of, literals_of
from reckoning_betty.data.proofwriter.prover import Prover

Kind = OneOf["attributes", "relations"]

ENOUGH, DRAFTS = 300, 3000
"""Structures of each sort that are collected before counterparts are sought, and drafts after which fewer will do."""

MOST_PREMISES = 3
ENTITIES, VERBS = 3, 3
"""Relations: how many a structure may speak of."""


class Structure(NamedTuple):
    """Sentences that are all relevant to ``target``, and nothing else."""

    sentences: tuple[Sentence, ...]
    target: Literal


@functools.cache
def matched_structures(kind: Kind, depth: int, negation: bool) -> list[tuple[list[Structure], list[Structure]]]:
    """Proofs of this depth with failing searches of the same depth and ``_looks``, grouped by these.

    ``negation``: whether a search may fail because the opposite of a premise holds. Empty for attributes at depth 1:
    there one fact for each premise is a proof, and fewer are none, which a count would tell.
    """
    rng = random.Random(f"structures {kind} {depth} {negation}")
    groups: dict[tuple, tuple[list[Structure], list[Structure]]] = {}
    for fails in (True, False):
        found = 0
        for _ in range(DRAFTS):
            structure = _draft(kind, depth, fails, negation, rng)
            if structure is None or not (fails or _looks(structure) in groups):
                continue
            if _is_sound(structure, depth, fails):
                groups.setdefault(_looks(structure), ([], []))[fails].append(structure)
                found += 1
            if found == ENOUGH:
                break
    return [group for _, group in sorted(groups.items()) if all(group)]


def _looks(structure: Structure) -> tuple:
    """What a count of words could tell of a structure: numbers of sentences, premises, entities and predicates."""
    rules = [sentence for sentence in structure.sentences if isinstance(sentence, Rule)]
    literals = [literal for sentence in structure.sentences for literal in literals_of(sentence)]
    return (
        len(structure.sentences),
        len(rules),
        sum(len(rule.premises) for rule in rules),
        sum(rule.is_general for rule in rules),
        sum(literal.subject == VARIABLE for literal in literals),
        sum(bool(literal.object) for literal in literals),
        len(entities_of(structure.sentences)),
        len({literal.predicate for literal in literals}),
        bool(structure.target.object),
        structure.target.subject == structure.target.object,
    )


def _is_sound(structure: Structure, depth: int, fails: bool) -> bool:
    """Whether the structure is what it was to be, with no sentence to spare."""
    sentences, target = structure
    prover = Prover(sentences)
    verdict = prover.judge(target)
    if (verdict.label == "unknown") != fails or verdict.depth != depth or not prover.is_consistent:
        return False
    facts = [sentence for sentence in sentences if not isinstance(sentence, Rule)]
    if verdict.relevant != (1 << len(sentences)) - 1 or target.subject not in entities_of(facts):
        return False
    return fails or all(
        target not in Prover([*sentences[:place], *sentences[place + 1 :]]).known for place in range(len(sentences))
    )


def _draft(kind: Kind, depth: int, fails: bool, negation: bool, rng: random.Random) -> Structure | None:
    new = _new_literals(kind, rng)
    chain = [next(new) for _ in range(depth + 1)]
    facts = [chain[-1]]
    premises = [[wanted] for wanted in chain[1:]]
    conclusions = chain[:-1]
    for place in range(depth):
        for _ in range(rng.choices((0, 1, 2), (5, 4, 1))[0]):
            sort = rng.random()
            if sort < 0.45:
                facts.append(_alongside(premises[place], next(new), rng))
                premises[place].append(facts[-1])
            elif sort < 0.85 or place == depth - 1:
                premises[place].append(rng.choice([*facts, *chain[place + 1 :]]))
            else:
                conclusions.append(next(new))
                premises.append([rng.choice([*facts, *chain[place + 2 :]])])
                premises[place].append(conclusions[-1])
    if fails and not _broken(kind, depth, negation, chain, facts, premises, rng):
        return None
    if any(len(set(wanted)) < len(wanted) or len(wanted) > MOST_PREMISES for wanted in premises):
        return None
    rules = [_generalised(wanted, end, kind, rng) for wanted, end in zip(premises, conclusions, strict=True)]
    sentences: list[Sentence] = [*facts, *rules]
    rng.shuffle(sentences)
    return Structure(tuple(sentences), chain[0])


def _alongside(premises: list[Literal], new: Literal, rng: random.Random) -> Literal:
    """Half of the time about whom the first premise is about, as in rules for everyone."""
    subject = premises[0].subject
    return new._replace(subject=subject) if subject != new.object and rng.random() < 0.5 else new


def _broken(kind, depth, negation, chain, facts, premises, rng) -> bool:
    """Let the structure fail at one of its premises; False where the chosen way is not open."""
    place = rng.randrange(depth)
    way = rng.choice(("loop", "opposite", "other") if kind == "relations" else ("loop", "opposite"))
    if way == "loop":
        if place == 0:
            return False
        premises[place].append(rng.choice(chain[:place]))
    elif way == "opposite":
        if not negation:
            return False
        elsewhere = [literal for literal in (*facts, *chain[place + 1 :]) if literal not in premises[place]]
        if not elsewhere:  # a rule that contradicts itself would need no search
            return False
        premises[place].append(rng.choice(elsewhere).negation)
    else:
        which = rng.randrange(len(facts))
        others = [f"e{n}" for n in range(ENTITIES) if f"e{n}" not in (facts[which].subject, facts[which].object)]
        facts[which] = facts[which]._replace(subject=rng.choice(others))
    return True


def _new_literals(kind: Kind, rng: random.Random):
    """Endless literals, no two of one predicate (with its object). Attributes: all of e0."""
    attributes, used = 0, set()
    while True:
        if kind == "attributes" or rng.random() < 0.4:
            subject = "e0" if kind == "attributes" else f"e{rng.randrange(ENTITIES)}"
            yield Literal(subject, f"a{attributes}")
            attributes += 1
            continue
        subject, object_ = (f"e{n}" for n in rng.sample(range(ENTITIES), 2))
        verb = f"v{rng.randrange(VERBS)}"
        if (verb, object_) not in used:
            used.add((verb, object_))
            yield Literal(subject, verb, object_)
        elif len(used) == ENTITIES * VERBS:
            attributes += 1
            yield Literal(subject, f"a{attributes - 1}")


def _generalised(premises: list[Literal], conclusion: Literal, kind: Kind, rng: random.Random) -> Rule:
    """The rule for this case alone, or more often for everyone in one subject's place; what is general comes first."""
    premises = rng.sample(premises, len(premises))
    if rng.random() < (0.85 if kind == "attributes" else 0.75):
        subject = rng.choice(premises).subject

        def general(literal: Literal) -> Literal:
            return literal._replace(subject=VARIABLE) if literal.subject == subject else literal

        premises = sorted(map(general, premises), key=lambda premise: premise.subject != VARIABLE)
        conclusion = general(conclusion)
    return Rule(tuple(premises), conclusion)
