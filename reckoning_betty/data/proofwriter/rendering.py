"""Literals and rules in ProofWriter's English, tokens apart: "Dave is cold .", "If someone is red then they are kind ."

A rule about attributes alone has shorter forms too: "All red , cold things are kind .", "Red , cold people are kind ."
"""

import functools
from typing import Literal as OneOf

from reckoning_betty.data.proofwriter.logic import VARIABLE, Literal, Rule, Sentence
from reckoning_betty.data.proofwriter.words import capitalised, third_person

Form = OneOf["if", "all", "plain"]
Generic = OneOf["something", "someone"]
"""What the variable is called; it goes on as "it" or as "they"."""

GENERIC: dict[str, tuple[str, str, bool]] = {
    "something": ("it", "things", False),
    "someone": ("they", "people", True),
}
"""Pronoun, the noun of the shorter forms, and whether the pronoun takes the plural."""


def render(sentence: Sentence, generic: Generic = "something", form: Form = "if") -> str:
    """The sentence in words. ``form`` counts only where ``has_short_forms``.

    ValueError for a rule whose premises have the variable, but not the first one: English asks for the noun first.
    """
    if isinstance(sentence, Rule):
        return _rule(sentence, generic, form)
    return render_fact(sentence)


@functools.lru_cache(maxsize=1 << 14)
def render_fact(literal: Literal) -> str:
    """A fact, or a hypothesis."""
    return f"{capitalised(_clause(literal, literal.subject, plural=False))} ."


def has_short_forms(rule: Rule) -> bool:
    """Whether it says that who has some attributes has another, or has it not."""
    premises, conclusion = rule
    return (
        conclusion.subject == VARIABLE
        and not conclusion.object
        and all(p.subject == VARIABLE and not p.object and p.positive for p in premises)
    )


def _rule(rule: Rule, generic: Generic, form: Form) -> str:
    pronoun, noun, plural = GENERIC[generic]
    premises, conclusion = rule
    if form != "if" and has_short_forms(rule):
        attributes = " , ".join(premise.predicate for premise in premises)
        not_ = "" if conclusion.positive else "not "
        everyone = f"{attributes} {noun} are {not_}{conclusion.predicate} ."
        return f"All {everyone}" if form == "all" else capitalised(everyone)
    if rule.is_general and premises[0].subject != VARIABLE:
        raise ValueError(f"the first premise of {rule} has no variable")
    clauses = []
    before = None
    for premise in premises:
        if premise.subject != VARIABLE:
            clauses.append(_clause(premise, premise.subject, plural=False))
        elif before is None:
            clauses.append(_clause(premise, generic, plural=False))
        elif before.subject == VARIABLE and not before.object and not premise.object:
            clauses.append(premise.predicate if premise.positive else f"not {premise.predicate}")
        else:
            clauses.append(_clause(premise, pronoun, plural))
        before = premise
    subject = conclusion.subject
    end = _clause(conclusion, pronoun, plural) if subject == VARIABLE else _clause(conclusion, subject, plural=False)
    return f"If {' and '.join(clauses)} then {end} ."


def _clause(literal: Literal, subject: str, plural: bool) -> str:
    _, predicate, object_, positive = literal
    if not object_:
        return f"{subject} {'are' if plural else 'is'} {'' if positive else 'not '}{predicate}"
    if positive:
        return f"{subject} {predicate if plural else third_person(predicate)} {object_}"
    return f"{subject} {'do' if plural else 'does'} not {predicate} {object_}"
