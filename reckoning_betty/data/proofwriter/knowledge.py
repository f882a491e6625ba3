"""Which sentences of a theory become a task's knowledge K, and what is asked about them."""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reckoning_betty.data.proofwriter.logic import Literal, Rule, Theory
from reckoning_betty.data.proofwriter.prover import Prover, positions
from reckoning_betty.data.proofwriter.rendering import render_fact
from reckoning_betty.data.task import Question, Task
from reckoning_betty.errors import UserError

REMEMBERED = 64
"""Parts of one theory whose questions are kept."""


class Asked(NamedTuple):
    """A hypothesis with what a theory says of it; ``relevant`` holds the sentences as bits, ``search`` in order."""

    hypothesis: Literal
    answer: str
    hops: int
    relevant: int
    search: tuple[int, ...]


def ask(prover: Prover, hypothesis: Literal) -> Asked:
    """The question with its answer."""
    verdict = prover.judge(hypothesis)
    search = prover.search(hypothesis, verdict.relevant)
    return Asked(hypothesis, verdict.label, verdict.depth, verdict.relevant, search)


def negated(asked: Asked) -> Asked:
    """The same question about the opposite."""
    answer = {"true": "false", "false": "true"}.get(asked.answer, asked.answer)
    return asked._replace(hypothesis=asked.hypothesis.negation, answer=answer)


class Further:
    """More questions about a part of a theory, found in that part alone and kept for its next visit."""

    def __init__(self, theory: Theory):
        self.theory = theory
        self._found: dict[int, tuple[list[Asked], list[Asked]]] = {}

    def ask(self, knowledge: int, first: Asked, count: int, rng: random.Random) -> list[Asked]:
        """Up to ``count`` questions besides ``first``: the opposite of it, then others in random order.

        Of the others a third is unknown, the rest true or false; where ``knowledge`` has too few of one
        sort, there are fewer of both.
        """
        if count == 0:
            return []
        if knowledge not in self._found:
            if len(self._found) > REMEMBERED:
                self._found.clear()
            self._found[knowledge] = self._candidates(knowledge)
        old = (first.hypothesis, first.hypothesis.negation)
        proved, failing = ([one for one in group if one.hypothesis not in old] for group in self._found[knowledge])
        unknown = sum(rng.random() < 1 / 3 for _ in range(count - 1))
        wanted = ((proved, count - 1 - unknown), (failing, unknown))
        share = min(len(group) / number if number else 1 for group, number in wanted)
        others = [
            asked
            for group, number in wanted
            for asked in rng.sample(group, min(len(group), number, int(share * number + rng.random())))
        ]
        rng.shuffle(others)
        return [negated(first), *(negated(asked) if rng.random() < 0.5 else asked for asked in others)]

    def _candidates(self, knowledge: int) -> tuple[list[Asked], list[Asked]]:
        """What the rules are about: all that they conclude, and what they would conclude of someone, but do not."""
        places = positions(knowledge)
        prover = Prover([self.theory[place] for place in places])
        conclusions = [sentence.conclusion for sentence in prover.theory if isinstance(sentence, Rule)]
        about = dict.fromkeys(
            end.about(entity)._replace(positive=True) for end in conclusions for entity in prover.entities
        )
        proved = [literal for literal, proof in prover.known.items() if proof.depth > 0]
        failing = [literal for literal in about if not {literal, literal.negation} & prover.known.keys()]

        def asked(hypothesis: Literal) -> Asked:
            found = ask(prover, hypothesis)
            return found._replace(
                relevant=sum(1 << places[place] for place in found.search),
                search=tuple(places[place] for place in found.search),
            )

        return list(map(asked, proved)), list(map(asked, failing))


def read_levels(distractors: str) -> tuple[int | None, ...]:
    """The numbers of distractors that an option such as "none", "2", "all" or "none,4,all" names; None for all.

    UserError for anything else.
    """
    levels: list[int | None] = []
    for word in str(distractors).split(","):
        word = word.strip()
        if not (word in ("none", "all") or word.isdecimal()):
            raise UserError(
                f"distractors is {distractors!r}, but it must be none, all, a number of sentences such as 4, or "
                "several of these with commas between them, such as none,2,all."
            )
        levels.append({"none": 0, "all": None}[word] if word in ("none", "all") else int(word))
    return tuple(levels)


def choose(relevant: int, size: int, level: int | None, rng: random.Random) -> list[int]:
    """The positions of K in a theory of ``size`` sentences, in random order: the relevant ones, ``level`` others."""
    places = list(positions(relevant))
    others = [place for place in range(size) if not relevant >> place & 1]
    places += others if level is None else rng.sample(others, min(level, len(others)))
    rng.shuffle(places)
    return places


def told(
    places: Sequence[int],
    sentence: Callable[[int], str],
    asked: Sequence[Asked],
    identifier: str,
    rename: Callable[[Literal], Literal] = lambda literal: literal,
) -> Task:
    """The task whose facts are the sentences at these places of the theory."""
    at = {place: position for position, place in enumerate(places)}
    return Task(
        facts=tuple(sentence(place) for place in places),
        questions=tuple(
            Question(
                text=render_fact(rename(question.hypothesis)),
                answer=question.answer,
                hops=question.hops,
                relevant=tuple(at[place] for place in question.search),
            )
            for question in asked
        ),
        identifier=identifier,
    )
