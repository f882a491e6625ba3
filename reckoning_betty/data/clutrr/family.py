"""Family trees: who is whose parent and spouse, and every relation that follows by definition."""

import random
from collections import defaultdict
from dataclasses import dataclass

from reckoning_betty.data.clutrr.kinship import FEMALE, GENDER, KIN, MALE, RULES

FIRST_CHILDREN = (3, 4)
GRANDCHILDREN = (2, 4)
GREAT_GRANDCHILDREN = (1, 3)
"""Fewest and most children per couple of the first, second and third generation."""

MARRIED_GRANDCHILDREN = 4
"""How many grandchildren of the first couple found a family; with it a tree has 24 to 42 people."""


@dataclass(frozen=True, slots=True)
class Family:
    """Everyone of one family, numbered from 0.

    ``parents[p]`` is (father, mother), or None for the founders and those who married in. ``relations[x, y]`` is what
    y is to x. ``splits[x, y]`` lists the people z for which a rule leads from (x, z) and (z, y) to exactly that
    relation; ``starts[r]`` lists the pairs (x, y) with relation r that have such a z. ``around[x]`` lists everyone
    whom a relation word connects to x.
    """

    genders: tuple[str, ...]
    parents: tuple[tuple[int, int] | None, ...]
    spouses: tuple[int | None, ...]
    relations: dict[tuple[int, int], str]
    splits: dict[tuple[int, int], tuple[int, ...]]
    starts: dict[str, tuple[tuple[int, int], ...]]
    around: tuple[tuple[int, ...], ...]

    def relation(self, x: int, y: int) -> str | None:
        """What y is to x, or None where none of the 20 words fits (cousins, siblings-in-law, oneself...)."""
        return self.relations.get((x, y))


class _Growth:
    """The lists that a tree under construction appends to."""

    def __init__(self) -> None:
        self.genders: list[str] = []
        self.parents: list[tuple[int, int] | None] = []
        self.spouses: list[int | None] = []

    def person(self, gender: str, parents: tuple[int, int] | None = None) -> int:
        self.genders.append(gender)
        self.parents.append(parents)
        self.spouses.append(None)
        return len(self.genders) - 1

    def marry(self, person: int) -> tuple[int, int]:
        """Give ``person`` a spouse from outside the tree; the couple is (husband, wife)."""
        partner = self.person(FEMALE if self.genders[person] == MALE else MALE)
        self.spouses[person], self.spouses[partner] = partner, person
        return (person, partner) if self.genders[person] == MALE else (partner, person)

    def children(self, couple: tuple[int, int], count: int, rng: random.Random) -> list[int]:
        return [self.person(rng.choice((MALE, FEMALE)), couple) for _ in range(count)]


def grow_family(rng: random.Random) -> Family:
    """A tree of four generations from one couple. Everyone has one spouse at most and siblings share both parents.

    All children of the founders marry, and so do some of the grandchildren; whoever marries in brings no parents, so
    that uncles and aunts are always by blood, as in CLUTRR.
    """
    growth = _Growth()
    founders = growth.marry(growth.person(MALE))
    grandchildren = []
    for child in growth.children(founders, rng.randint(*FIRST_CHILDREN), rng):
        grandchildren += growth.children(growth.marry(child), rng.randint(*GRANDCHILDREN), rng)
    for grandchild in rng.sample(grandchildren, MARRIED_GRANDCHILDREN):
        growth.children(growth.marry(grandchild), rng.randint(*GREAT_GRANDCHILDREN), rng)
    return _family(growth)


def _family(growth: _Growth) -> Family:
    relations = _relations(growth)
    around: list[list[int]] = [[] for _ in growth.genders]
    for x, y in relations:
        around[x].append(y)
    splits, starts = {}, defaultdict(list)
    for (x, y), relation in relations.items():
        middles = tuple(z for z in around[x] if RULES.get((relations[x, z], relations.get((z, y)))) == relation)
        if middles:
            splits[x, y] = middles
            starts[relation].append((x, y))
    return Family(
        genders=tuple(growth.genders),
        parents=tuple(growth.parents),
        spouses=tuple(growth.spouses),
        relations=relations,
        splits=splits,
        starts={relation: tuple(pairs) for relation, pairs in starts.items()},
        around=tuple(map(tuple, around)),
    )


def _relations(growth: _Growth) -> dict[tuple[int, int], str]:
    """Every ordered pair that a relation word connects, from the definitions of the words and not from the rules."""
    people = range(len(growth.genders))
    parents = [couple or () for couple in growth.parents]
    children = [[c for c in people if p in parents[c]] for p in people]
    siblings = [[q for q in people if q != p and parents[p] and parents[q] == parents[p]] for p in people]
    spouse = [[] if s is None else [s] for s in growth.spouses]

    def through(first: list, second: list) -> list[list[int]]:
        return [[y for z in first[x] for y in second[z]] for x in people]

    kin = {
        "parent": parents,
        "child": children,
        "sibling": siblings,
        "spouse": spouse,
        "grandparent": through(parents, parents),
        "grandchild": through(children, children),
        "parent's sibling": through(parents, siblings),
        "sibling's child": through(siblings, children),
        "spouse's parent": through(spouse, parents),
        "child's spouse": through(children, spouse),
    }
    words = {kind: {GENDER[word]: word for word in pair} for kind, pair in KIN.items()}
    return {(x, y): words[kind][growth.genders[y]] for kind, related in kin.items() for x in people for y in related[x]}
