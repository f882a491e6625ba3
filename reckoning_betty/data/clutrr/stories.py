"""Stories about one family: a chain of facts from A to B, and the distractors told along with it.

The chain is made as CLUTRR's authors make theirs: start from two related people and again and again replace a fact
(X, r, Y) by two facts (X, r1, Z), (Z, r2, Y) from which a rule leads back to it.
"""

import itertools
import random
from dataclasses import dataclass
from typing import Literal

from reckoning_betty.data.clutrr.family import Family
from reckoning_betty.data.clutrr.kinship import conclusions

Noise = Literal["none", "supporting", "irrelevant", "disconnected"]

NOISE_PEOPLE: dict[str, int] = {"none": 0, "supporting": 1, "irrelevant": 2, "disconnected": 3}
"""For each kind of noise the most people that it adds to those of the chain."""

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Story:
    """Who is spoken of, by number in ``family``.

    ``chain`` holds the people from A to B, each edge of it is a fact; ``noise`` holds the edges of the distractors.
    ``derived[i, j]`` is what the person at place j of the chain is to the one at place i, for every stretch of two
    edges or more that has this one conclusion and where the family tree agrees. It always contains the whole chain.
    """

    family: Family
    chain: tuple[int, ...]
    noise: tuple[Edge, ...]
    derived: dict[Edge, str]

    @property
    def people(self) -> tuple[int, ...]:
        """Everyone in the story once, A first."""
        return tuple(dict.fromkeys((*self.chain, *(person for edge in self.noise for person in edge))))


def tell_story(family: Family, answer: str, hops: int, noise: Noise, rng: random.Random) -> Story | None:
    """A story of ``hops`` facts whose B is A's ``answer``; None where the random choices lead nowhere.

    None is no error: the caller draws again. It happens where nobody is left to split a fact with, where the kind of
    noise finds no people, and where the rules allow two answers (a wife's son's grandmother is one's mother to one
    bracketing and one's mother-in-law to the other; the published data has such rows, here they are left out).
    """
    chain = _chain(family, answer, hops, rng)
    if chain is None:
        return None
    edges = _noise(family, chain, noise, rng)
    if edges is None:
        return None
    derived = _derived(family, chain, edges if noise == "supporting" else ())
    if (0, hops) not in derived:
        return None
    return Story(family, tuple(chain), edges, derived)


def _chain(family: Family, answer: str, hops: int, rng: random.Random) -> list[int] | None:
    """``hops + 1`` different people; None if nobody is left to split a fact with."""
    if answer not in family.starts:
        return None
    chain = list(rng.choice(family.starts[answer]))
    while len(chain) <= hops:
        for place in rng.sample(range(1, len(chain)), len(chain) - 1):
            middles = family.splits.get((chain[place - 1], chain[place]), ())
            unused = [z for z in middles if z not in chain]
            if unused:
                chain.insert(place, rng.choice(unused))
                break
        else:
            return None
    return chain


def _noise(family: Family, chain: list[int], noise: Noise, rng: random.Random) -> tuple[Edge, ...] | None:
    """The edges of the distractors; they are true in the tree and open no way from A to B but a detour."""
    if noise == "supporting":
        return _detour(family, chain, rng)
    if noise == "irrelevant":
        return _loose_ends(family, chain, rng)
    if noise == "disconnected":
        return _elsewhere(family, chain, rng)
    return ()


def _detour(family: Family, chain: list[int], rng: random.Random) -> tuple[Edge, ...] | None:
    """Two edges around one edge of the chain, through a new person.

    Around a single edge, as in the data: around more, the detour would shorten the way that the question asks for.
    """
    for place in rng.sample(range(1, len(chain)), len(chain) - 1):
        x, y = chain[place - 1], chain[place]
        unused = [z for z in family.splits.get((x, y), ()) if z not in chain]
        if unused:
            z = rng.choice(unused)
            return (x, z), (z, y)
    return None


def _loose_ends(family: Family, chain: list[int], rng: random.Random) -> tuple[Edge, ...] | None:
    """One or two edges from people of the chain to new people, each of whom occurs nowhere else."""
    edges: list[Edge] = []
    taken = set(chain)
    for _ in range(rng.randint(1, 2)):
        x = rng.choice(chain)
        unused = [y for y in family.around[x] if y not in taken]
        if not unused:
            return None
        edges.append((x, rng.choice(unused)))
        taken.add(edges[-1][1])
    return tuple(edges)


def _elsewhere(family: Family, chain: list[int], rng: random.Random) -> tuple[Edge, ...] | None:
    """One edge, or two in a row, between people none of whom is in the chain."""
    others = [person for person in range(len(family.genders)) if person not in chain]
    path = [rng.choice(others)]
    for _ in range(rng.randint(1, 2)):
        unused = [y for y in family.around[path[-1]] if y not in chain and y not in path]
        if not unused:
            return None
        path.append(rng.choice(unused))
    return tuple(itertools.pairwise(path))


def _derived(family: Family, chain: list[int], detour: tuple[Edge, ...]) -> dict[Edge, str]:
    """What the chain settles about two of its people, see ``Story.derived``, unless the detour unsettles it again."""
    table = conclusions(_relations(family, chain))
    derived = {}
    for start, stop in table:
        relation = family.relation(chain[start], chain[stop])
        if stop - start >= 2 and table[start, stop] == {relation}:
            derived[start, stop] = relation
    if detour:
        (before, z), _ = detour
        place = chain.index(before) + 1
        around = conclusions(_relations(family, [*chain[:place], z, *chain[place:]]))
        for start, stop in list(derived):
            if start < place <= stop and not around[start, stop + 1] <= {derived[start, stop]}:
                del derived[start, stop]
    return derived


def _relations(family: Family, path: list[int]) -> list[str]:
    return [family.relations[edge] for edge in itertools.pairwise(path)]
