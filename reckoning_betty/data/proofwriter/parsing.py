"""ProofWriter's English back into literals and rules."""

import functools
import re

from reckoning_betty.data.proofwriter.logic import VARIABLE, Literal, Rule, Sentence
from reckoning_betty.data.proofwriter.words import base_form

END = re.compile(r"(?<=[.!?])\s+")
VARIABLES = ("something", "someone", "it", "they")
WORD = r"(?!(?:the|not|is|are|does|do|then|and)\b)[a-z]\w*"
"""An attribute or a verb."""
THING = r"the \w+(?: \w+)*?|(?!(?:All|The|If|It|They|Something|Someone)\b)[A-Z]\w*"
"""An entity: "the bald eagle", or a name of one word."""
CLAUSE = re.compile(
    rf"(?P<subject>{'|'.join(VARIABLES)}|{THING}) "
    rf"(?:(?:is|are) (?P<is_not>not )?(?P<attribute>{WORD})"
    rf"|(?:does|do) (?P<do_not>not) (?P<base>{WORD}) (?P<denied>{THING})"
    rf"|(?P<verb>{WORD}) (?P<object>{THING}))"
)
MORE = re.compile(rf"(?P<not>not )?(?P<attribute>{WORD})")
EVERYONE = re.compile(rf"(?P<attributes>{WORD}(?:, {WORD})*) (?:people|things) are (?P<not>not )?(?P<attribute>{WORD})")


class NotUnderstood(ValueError):
    """A sentence, or a part of it, that is none of ProofWriter's; the message is that part."""


def split_sentences(text: str) -> list[str]:
    """The sentences of a paragraph."""
    return [sentence for sentence in END.split(text.strip()) if sentence]


@functools.lru_cache(maxsize=1 << 16)
def parse(text: str) -> Sentence:
    """A fact or a rule; spaces before punctuation do not matter.

    NotUnderstood for anything else.
    """
    sentence = re.sub(r"\s+([.,])", r"\1", " ".join(text.split())).removesuffix(".")
    if sentence.startswith("If "):
        return _conditional(sentence[3:])
    if match := EVERYONE.fullmatch(_uncapitalised(sentence.removeprefix("All "))):
        premises = tuple(Literal(VARIABLE, attribute) for attribute in match["attributes"].split(", "))
        return Rule(premises, Literal(VARIABLE, match["attribute"], positive=not match["not"]))
    fact = _clause(sentence)
    if fact.subject == VARIABLE:
        raise NotUnderstood(text)
    return fact


def parse_fact(text: str) -> Literal:
    """A fact or a hypothesis.

    NotUnderstood for anything else, rules too.
    """
    sentence = parse(text)
    if isinstance(sentence, Rule):
        raise NotUnderstood(text)
    return sentence


def _conditional(sentence: str) -> Rule:
    condition, then, end = sentence.partition(" then ")
    if not then:
        raise NotUnderstood(f"If {sentence}")
    premises: list[Literal] = []
    for part in condition.split(" and "):
        if premises and not premises[-1].object and (more := MORE.fullmatch(part)):
            premises.append(Literal(premises[-1].subject, more["attribute"], positive=not more["not"]))
        else:
            premises.append(_clause(part))
    conclusion = _clause(end)
    if conclusion.subject == VARIABLE and all(premise.subject != VARIABLE for premise in premises):
        raise NotUnderstood(end)
    return Rule(tuple(premises), conclusion)


def _clause(text: str) -> Literal:
    if text.startswith("The "):
        text = _uncapitalised(text)
    match = CLAUSE.fullmatch(text)
    if not match:
        raise NotUnderstood(text)
    subject = VARIABLE if match["subject"] in VARIABLES else match["subject"]
    if match["attribute"]:
        return Literal(subject, match["attribute"], positive=not match["is_not"])
    if match["base"]:
        return Literal(subject, match["base"], match["denied"], positive=False)
    verb = match["verb"] if match["subject"] == "they" else base_form(match["verb"])
    return Literal(subject, verb, match["object"])


def _uncapitalised(text: str) -> str:
    return text[:1].lower() + text[1:]
