"""The kinship words of CLUTRR and the rules by which two of them make a third.

A triple ``(X, r, Y)`` reads "Y is X's r". The rules are those that the published data uses in its ``proof_state``
column: every rule there follows one of the schemas below, and the gender of the conclusion is the gender of the second
premise, because both are words for the same person Y.
"""

from collections.abc import Sequence

MALE, FEMALE = "male", "female"

KIN: dict[str, tuple[str, str]] = {
    "parent": ("father", "mother"),
    "child": ("son", "daughter"),
    "sibling": ("brother", "sister"),
    "spouse": ("husband", "wife"),
    "grandparent": ("grandfather", "grandmother"),
    "grandchild": ("grandson", "granddaughter"),
    "parent's sibling": ("uncle", "aunt"),
    "sibling's child": ("nephew", "niece"),
    "spouse's parent": ("father-in-law", "mother-in-law"),
    "child's spouse": ("son-in-law", "daughter-in-law"),
}
"""The ten kinds of kin, each with the word for a man and the word for a woman."""

RELATIONS: tuple[str, ...] = tuple(word for pair in KIN.values() for word in pair)
"""The 20 relation words, in the order of ``KIN``."""

GENDER: dict[str, str] = {
    word: gender for pair in KIN.values() for word, gender in zip(pair, (MALE, FEMALE), strict=True)
}
"""The gender of the person that a relation word names (Y in ``(X, r, Y)``)."""

SCHEMAS: dict[tuple[str, str], str] = {
    ("parent", "parent"): "grandparent",
    ("parent", "child"): "sibling",
    ("parent", "sibling"): "parent's sibling",
    ("child", "child"): "grandchild",
    ("child", "sibling"): "child",
    ("child", "spouse"): "child's spouse",
    ("child", "grandparent"): "parent",
    ("child", "parent's sibling"): "sibling",
    ("sibling", "parent"): "parent",
    ("sibling", "child"): "sibling's child",
    ("sibling", "sibling"): "sibling",
    ("sibling", "grandparent"): "grandparent",
    ("spouse", "parent"): "spouse's parent",
    ("spouse", "child"): "child",
    ("spouse", "grandchild"): "grandchild",
    ("grandchild", "sibling"): "grandchild",
}
"""X's <first> Z and Z's <second> Y make Y X's <value>.

``child, grandparent -> parent`` is a convention of the data and no truth of kinship: a child's grandfather may also be
the father of one's spouse. It is why some chains have two conclusions, see ``conclusions``.
"""


def _rules() -> dict[tuple[str, str], str]:
    """Spell the schemas out in words; husbands of sons and wives of daughters do not occur in the data."""
    rules = {}
    for (first, second), result in SCHEMAS.items():
        for r1 in KIN[first]:
            for place, r2 in enumerate(KIN[second]):
                if (first, second) != ("child", "spouse") or GENDER[r1] != GENDER[r2]:
                    rules[r1, r2] = KIN[result][place]
    return rules


RULES: dict[tuple[str, str], str] = _rules()
"""The 62 rules: ``RULES[r1, r2]`` is r where (X, r1, Z) and (Z, r2, Y) give (X, r, Y)."""

DERIVABLE: tuple[str, ...] = tuple(word for word in RELATIONS if word in RULES.values())
"""The 18 relations that a rule can conclude (all but husband and wife), hence the possible answers."""


def compose(r1: str, r2: str) -> str | None:
    """What Y is to X if Z is X's ``r1`` and Y is Z's ``r2``; None where no rule says."""
    return RULES.get((r1, r2))


def conclusions(chain: Sequence[str]) -> dict[tuple[int, int], frozenset[str]]:
    """Every relation that the rules give for every stretch of a chain, whatever the order of the steps.

    Entry ``(i, j)`` with ``i < j`` belongs to the edges ``chain[i:j]``, i.e. to the people at places i and j. An empty
    set means that no bracketing goes through; two members mean that the chain does not settle the answer.
    """
    table = {(i, i + 1): frozenset((relation,)) for i, relation in enumerate(chain)}
    for width in range(2, len(chain) + 1):
        for start in range(len(chain) - width + 1):
            stop = start + width
            found = set()
            for middle in range(start + 1, stop):
                for r1 in table[start, middle]:
                    for r2 in table[middle, stop]:
                        if (relation := RULES.get((r1, r2))) is not None:
                            found.add(relation)
            table[start, stop] = frozenset(found)
    return table
