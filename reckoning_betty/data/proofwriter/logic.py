"""Literals, rules and theories: what ProofWriter's sentences say, apart from their words."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

VARIABLE = "?"
"""The subject of a literal of a rule that holds for everyone ("something", "someone")."""


class Literal(NamedTuple):
    """Something said of a subject, or denied: an attribute (without object) or a relation to an object."""

    subject: str
    predicate: str
    object: str = ""
    positive: bool = True

    @property
    def negation(self) -> "Literal":
        return Literal(self[0], self[1], self[2], not self[3])

    def about(self, entity: str) -> "Literal":
        """With ``entity`` in the variable's place."""
        return Literal(entity, self[1], self[2], self[3]) if self[0] == VARIABLE else self


class Rule(NamedTuple):
    """If all premises hold, the conclusion does: for one case, or with the variable for every entity."""

    premises: tuple[Literal, ...]
    conclusion: Literal

    @property
    def is_general(self) -> bool:
        return any(premise.subject == VARIABLE for premise in self.premises)


Sentence = Literal | Rule
Theory = Sequence[Sentence]
"""Facts (literals without variable) and rules. A conclusion has the variable only where a premise has it."""


def literals_of(sentence: Sentence) -> tuple[Literal, ...]:
    """A rule's premises, then its conclusion; a fact alone."""
    return (*sentence.premises, sentence.conclusion) if isinstance(sentence, Rule) else (sentence,)


def entities_of(sentences: Iterable[Sentence]) -> list[str]:
    """Everyone that the sentences name, in the order of first mention."""
    named = (
        entity
        for sentence in sentences
        for literal in literals_of(sentence)
        for entity in (literal.subject, literal.object)
    )
    return [entity for entity in dict.fromkeys(named) if entity not in (VARIABLE, "")]
