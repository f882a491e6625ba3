"""Which sentences of a theory become a task's knowledge K, and what is asked about them."""

import functools
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reckoning_betty.data.proofwriter.logic import Literal, Rule
from reckoning_betty.data.proofwriter.prover import Prover, positions
from reckoning_betty.data.proofwriter.rendering import render_fact
from reckoning_betty.data.task import Question, Task
from reckoning_betty.errors import UserError


class Asked(NamedTuple):
    """A hypothesis with what a theory says of it; ``relevant`` holds the sentences as bits."""

    hypothesis: Literal
    answer: str
    hops: int
    relevant: int


Candidates = tuple[list[Asked], list[Asked]]
"""Hypotheses that can be proved, and unknown ones."""


def ask(prover: Prover, hypothesis: Literal) -> Asked:
    """The question with its answer."""
    verdict = prover.judge(hypothesis)
    return Asked(hypothesis, verdict.label, verdict.depth, verdict.relevant)


def negated(asked: Asked) -> Asked:
    """The same question about the opposite."""
    answer = {"true": "false", "false": "true"}.get(asked.answer, asked.answer)
    return asked._replace(hypothesis=asked.hypothesis.negation, answer=answer)


@functools.lru_cache(maxsize=1 << 14)
def candidates(prover: Prover) -> Candidates:
    """What a theory's rules are about: all that they conclude, and all unknown that they would conclude of someone."""
    proved = [ask(prover, literal) for literal, proof in prover.known.items() if proof.depth > 0]
    conclusions = [sentence.conclusion for sentence in prover.theory if isinstance(sentence, Rule)]
    about = dict.fromkeys(end.about(entity) for end in conclusions for entity in prover.entities)
    failing = [ask(prover, literal) for literal in about if not {literal, literal.negation} & prover.known.keys()]
    return proved, failing


def further(found: Candidates, knowledge: int, first: Literal, count: int, rng: random.Random) -> list[Asked]:
    """Up to ``count`` more questions whose relevant sentences all lie in ``knowledge``, in random order.

    A third of them is unknown, the others are true or false; where K proves little, they are fewer.
    """
    proved, failing = (
        [
            asked
            for asked in group
            if not asked.relevant & ~knowledge and asked.hypothesis not in (first, first.negation)
        ]
        for group in found
    )
    chosen = rng.sample(proved, min(len(proved), -(-2 * count // 3)))
    unknown = min(len(failing), int(len(chosen) / 2 + rng.random()), count - len(chosen))
    chosen += rng.sample(failing, unknown)
    rng.shuffle(chosen)
    return [negated(asked) if rng.random() < 0.5 else asked for asked in chosen]


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
                relevant=tuple(sorted(at[place] for place in positions(question.relevant))),
            )
            for question in asked
        ),
        identifier=identifier,
    )
