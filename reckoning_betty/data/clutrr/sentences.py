"""A CLUTRR story, with its people in [brackets], cut into the sentences that serve as facts."""

import re
from collections.abc import Iterable, Sequence

from reckoning_betty.data.clutrr.renaming import BRACKETED

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"')])\s+")
TITLE_END = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St)\.$")


def split_story(story: str, names: Iterable[str]) -> list[str]:
    """One fact per sentence that names someone; other sentences belong to the one before them.

    Names that the writers left without brackets get them first. A story that opens with a sentence about nobody has it
    put before its first fact.
    """
    facts: list[str] = []
    opening: list[str] = []
    for sentence in _sentences(bracket_all(story, names)):
        if BRACKETED.search(sentence):
            facts.append(" ".join([*opening, sentence]))
            opening = []
        elif facts:
            facts[-1] += " " + sentence
        else:
            opening.append(sentence)
    return facts


def bracket_all(story: str, names: Iterable[str]) -> str:
    """Brackets around every mention of these people, not only around those that have them already."""
    outside = BRACKETED.sub(" ", story)
    for name in names:
        if name in outside:
            story = re.sub(rf"(?<!\[)\b{re.escape(name)}\b(?!\])", f"[{name}]", story)
    return story


def told_in(facts: Sequence[str], clean_story: str) -> tuple[int, ...]:
    """The places of the facts that the story without distractors (names in brackets) tells too.

    Sentences are compared without what was added to them because it names nobody. Some writers left out the final stop,
    so that two sentences run together in one of the texts and not in the other; hence one may contain the other. All
    places, if part of the clean story is not found: then it cannot be told which facts are distractors.
    """
    told = [_bare(next(filter(BRACKETED.search, _sentences(fact)))) for fact in facts]
    clean = [_bare(sentence) for sentence in _sentences(clean_story) if BRACKETED.search(sentence)]
    matches = {(i, j) for i, own in enumerate(told) for j, other in enumerate(clean) if own in other or other in own}
    if not clean or {j for _, j in matches} != set(range(len(clean))):
        return tuple(range(len(facts)))
    return tuple(sorted({i for i, _ in matches}))


def _sentences(text: str) -> list[str]:
    pieces: list[str] = []
    for piece in SENTENCE_END.split(text.strip()):
        if pieces and TITLE_END.search(pieces[-1]):
            pieces[-1] += " " + piece
        elif piece:
            pieces.append(piece)
    return pieces


def _bare(text: str) -> str:
    return " ".join(text.split()).rstrip(".!? ")
