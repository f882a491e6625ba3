"""Theories without names and words, each with a hypothesis that can be proved and one like it that is unknown."""

import functools
import random
from collections import Counter
from dataclasses import dataclass

from reckoning_betty.data.proofwriter.knowledge import Asked, Further, ask
from reckoning_betty.data.proofwriter.logic import VARIABLE, Literal, Rule, Sentence, entities_of, literals_of
from reckoning_betty.data.proofwriter.prover import Prover, positions
from reckoning_betty.data.proofwriter.structures import VERBS, Kind, Structure, matched_structures
from reckoning_betty.data.proofwriter.words import ATTRIBUTES

MOST_ENTITIES = 4

MERGES, TRIALS = 30, 60
"""Attempts to put two structures into one theory, and to add a sentence to it."""


@dataclass(frozen=True, eq=False)
class Outline:
    """A consistent theory of e0, a0, v0, ...; its two questions have equal depths and relevant sets that look alike."""

    sentences: tuple[Sentence, ...]
    proved: Asked
    unknown: Asked

    @functools.cached_property
    def is_circular(self) -> bool:
        """Whether the search for the unknown hypothesis meets it again, or its opposite, as a premise."""
        target = self.unknown.hypothesis
        return any(
            (premise.predicate, premise.object) == (target.predicate, target.object)
            for place in positions(self.unknown.relevant)
            for premise in getattr(self.sentences[place], "premises", ())
        )

    @functools.cached_property
    def entities(self) -> list[str]:
        return entities_of(self.sentences)

    @functools.cached_property
    def further(self) -> Further:
        """More questions."""
        return Further(self.sentences)

    @functools.cached_property
    def predicates(self) -> tuple[list[str], list[str]]:
        """Attributes and verbs."""
        literals = [literal for sentence in self.sentences for literal in literals_of(sentence)]
        names = dict.fromkeys(literal.predicate for literal in literals)
        return [name for name in names if name[0] == "a"], [name for name in names if name[0] == "v"]

    @functools.cached_property
    def pivots(self) -> set[str]:
        """Predicates that are asked for, or stand in several premises: where a search may meet the opposite."""
        premises = Counter(
            premise.predicate for rule in self.sentences if isinstance(rule, Rule) for premise in rule.premises
        )
        asked = {self.proved.hypothesis.predicate, self.unknown.hypothesis.predicate}
        return asked | {predicate for predicate, count in premises.items() if count > 1}


def make_outline(kind: Kind, depth: int, negation: bool, size: int, rng: random.Random) -> Outline:
    """A theory of ``size`` sentences with questions of this depth."""
    groups = [
        (proofs, failures)
        for proofs, failures in matched_structures(kind, depth, negation)
        if 2 * len(proofs[0].sentences) <= size
    ]
    weights = [min(map(len, group)) for group in groups]
    while True:
        proofs, failures = rng.choices(groups, weights)[0]
        proof, failure = rng.choice(proofs), rng.choice(failures)
        for _ in range(MERGES):
            merged = _merged(kind, proof, failure, rng)
            if merged is None:
                continue
            sentences = merged[0].sentences + merged[1].sentences
            proved, unknown = _verdicts(sentences, merged[0].target, merged[1].target)
            own = (1 << len(proof.sentences)) - 1
            if (proved, unknown) == (("true", depth, own), ("unknown", depth, own << len(proof.sentences))):
                break
        else:
            continue
        theory = _extended(kind, sentences, merged, negation, size, rng)
        if theory is not None:
            prover = Prover(theory)
            return Outline(theory, ask(prover, merged[0].target), ask(prover, merged[1].target))


def smallest_size(kind: Kind, depth: int) -> int | None:
    """The fewest sentences of a theory with questions of this depth; None if there is no such theory of this kind."""
    if kind == "attributes" and depth == 1:
        return None  # see matched_structures
    return 2 * max(3, depth + 1)


@functools.cache  # asked for every task that is drawn
def possible_sizes(kind: Kind, depth: int, negation: bool, size: int) -> list[int]:
    """How many sentences can be relevant in a theory of ``size`` sentences with questions of this depth, in order."""
    sizes = {len(proofs[0].sentences) for proofs, _ in matched_structures(kind, depth, negation)}
    return sorted(number for number in sizes if 2 * number <= size)


def _verdicts(sentences: tuple[Sentence, ...], *hypotheses: Literal) -> list[tuple[str, int, int] | None]:
    prover = Prover(sentences)
    if not prover.is_consistent:
        return [None for _ in hypotheses]
    return [tuple(ask(prover, hypothesis))[1:4] for hypothesis in hypotheses]


def _merged(kind: Kind, proof: Structure, failure: Structure, rng: random.Random) -> list[Structure] | None:
    """Both with entities and predicates out of the same few; None if there are not enough words to keep apart what they
    conclude."""
    people = rng.randint(2, MOST_ENTITIES)
    free = [f"a{n}" for n in range(len(ATTRIBUTES))]
    rng.shuffle(free)
    shared: list[str] = []
    merged = []
    for structure in (proof, failure):
        literals = [literal for sentence in structure.sentences for literal in literals_of(sentence)]
        concluded = {s.conclusion.predicate for s in structure.sentences if isinstance(s, Rule)}
        names: dict[str, str] = {"": "", VARIABLE: VARIABLE}
        entities = [f"e{n}" for n in range(people if kind == "attributes" else MOST_ENTITIES)]
        names |= zip(entities_of(structure.sentences), rng.sample(entities, len(entities)), strict=False)
        names |= zip((f"v{n}" for n in range(VERBS)), rng.sample([f"v{n}" for n in range(VERBS)], VERBS), strict=True)
        taken: list[str] = []
        for predicate in dict.fromkeys(literal.predicate for literal in literals if not literal.object):
            common = predicate not in concluded and shared and (rng.random() < 0.5 or not free)
            if not (common or free):
                return None
            names[predicate] = shared.pop() if common else free.pop()
            taken += [] if common or predicate in concluded else [names[predicate]]
        shared = taken
        merged.append(
            Structure(
                tuple(renamed(sentence, names) for sentence in structure.sentences), _named(structure.target, names)
            )
        )
    return merged


def renamed(sentence: Sentence, names: dict[str, str]) -> Sentence:
    """With other entities and predicates."""
    if isinstance(sentence, Rule):
        return Rule(tuple(_named(premise, names) for premise in sentence.premises), _named(sentence.conclusion, names))
    return _named(sentence, names)


def _named(literal: Literal, names: dict[str, str]) -> Literal:
    subject, predicate, object_, positive = literal
    return Literal(names[subject], names[predicate], names[object_], positive)


def _extended(
    kind: Kind,
    sentences: tuple[Sentence, ...],
    merged: list[Structure],
    negation: bool,
    size: int,
    rng: random.Random,
) -> tuple[Sentence, ...] | None:
    """With further facts and rules that change neither question nor what is relevant to it; None if none are found."""
    targets = [structure.target for structure in merged]
    verdicts = _verdicts(sentences, *targets)
    for _ in range(TRIALS):
        if len(sentences) == size:
            return sentences
        literals = [literal for sentence in sentences for literal in literals_of(sentence)]
        new = _further_sentence(kind, literals, negation, rng)
        if new not in sentences and _verdicts((*sentences, new), *targets) == verdicts:
            sentences = (*sentences, new)
    return None


def _further_sentence(kind: Kind, literals: list[Literal], negation: bool, rng: random.Random) -> Sentence:
    """A fact, or a rule for everyone or for one, about what the theory speaks of and sometimes about something else."""
    entities = entities_of(literals)

    def literal(subject: str) -> Literal:
        predicate, object_ = rng.choice(literals)[1:3]
        if rng.random() < 0.3:
            predicate, object_ = f"a{rng.randrange(len(ATTRIBUTES))}", ""
        elif object_ == subject:
            object_ = next(entity for entity in entities if entity != subject)
        return Literal(subject, predicate, object_, not (negation and rng.random() < 0.15))

    subject = rng.choice(entities)
    if rng.random() < 0.5:
        return literal(subject)
    if rng.random() < 0.75:
        subject = VARIABLE
    drawn = [literal(subject) for _ in range(rng.choice((1, 1, 2)))]
    premises = {premise[1:3]: premise for premise in drawn}  # none twice, and none with its opposite
    end = subject if kind == "attributes" or rng.random() < 0.6 else rng.choice(entities)
    conclusion = literal(end)
    while conclusion[1:3] in premises:
        conclusion = literal(end)
    return Rule(tuple(premises.values()), conclusion)
