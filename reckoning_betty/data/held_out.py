"""What is kept out of training: a fixed hash decides, the same in every process and every run."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from reckoning_betty.errors import UserError

Split = Literal["train", "validation", "test"]


def home_of(key: str) -> Split:
    """The one split of what ``key`` tells: 80 % to train, 10 % each to validation and test.

    Python's own hash differs from process to process.
    """
    tenth = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % 10
    return "validation" if tenth == 8 else "test" if tenth == 9 else "train"


def fixed_hash(*texts: str) -> str:
    """The same for the same texts, in every process."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def set_aside(
    hashes: Iterable[str], fractions: dict[str, float], source: str | Path, kind: str
) -> dict[str, frozenset[str]]:
    """The ``hashes`` that each of ``fractions`` takes from training: its share of the different ones.

    Each takes one at least, and one at least is left. What the first takes does not depend on the others.

    Args:
        hashes: of the stories (or other groups that must stay together), by ``fixed_hash``.
        fractions: shares, each between 0 and 1, by split.
        source: where they come from, for the message.
        kind: what they are, for the message.

    Raises:
        UserError: there are too few.
    """
    order = sorted(set(hashes))
    needed = len(fractions) + 1
    if len(order) < needed:
        takers = f"{' and '.join(fractions)} {'take one each' if len(fractions) > 1 else 'takes one'}"
        raise UserError(f"{source} has too few training {kind} ({len(order)}): {takers}, so {needed} are needed.")
    parts, start = {}, 0
    for place, (split, fraction) in enumerate(fractions.items()):
        for_others = len(fractions) - place
        stop = min(start + max(1, round(fraction * len(order))), len(order) - for_others)
        parts[split], start = frozenset(order[start:stop]), stop
    return parts
