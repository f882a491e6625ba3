"""The rules against the published proofs, and the table of conclusions against a search over all bracketings."""

import ast
import csv
import gzip
from collections import Counter
from pathlib import Path

import pytest

from reckoning_betty.data.clutrr.kinship import DERIVABLE, GENDER, RELATIONS, RULES, compose, conclusions

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PUBLISHED_STEPS = 51286


def published_steps():
    """Every (r1, r2, r) that a proof of the published files uses, counted."""
    steps = Counter()
    for path in sorted((SHARED / "data").glob("clutrr*/*/*.csv*")):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for step in ast.literal_eval(row["proof_state"].replace("neice", "niece")):
                    for (x, r, y), ((x1, r1, z1), (z2, r2, y2)) in step.items():
                        assert (x1, z1, y2) == (x, z2, y)
                        steps[r1, r2, r] += 1
    return steps


def test_rules_agree_with_every_published_step():
    if not (SHARED / "data" / "clutrr").is_dir():
        pytest.skip(f"the published data is not at {SHARED}/data/clutrr")
    steps = published_steps()
    print(f"{steps.total()} published steps, {len(steps)} different ones")
    assert steps.total() == PUBLISHED_STEPS
    assert {step: n for step, n in steps.items() if compose(*step[:2]) != step[2]} == {}
    # The other direction: a rule of ours that no proof uses would be an invention.
    assert {(r1, r2) for r1, r2, _ in steps} == set(RULES)


def test_counts_of_relations_and_rules():
    assert len(RELATIONS) == len(set(RELATIONS)) == 20
    assert len(RULES) == 62
    assert set(RELATIONS) - set(DERIVABLE) == {"husband", "wife"}


@pytest.mark.parametrize(
    ("r1", "r2", "expected"),
    [
        ("father", "father", "grandfather"),
        ("mother", "brother", "uncle"),
        ("sister", "daughter", "niece"),
        ("wife", "mother", "mother-in-law"),
        ("son", "wife", "daughter-in-law"),
        ("daughter", "husband", "son-in-law"),
        ("daughter", "aunt", "sister"),
        ("son", "husband", None),
        ("uncle", "father", None),
        ("nobody", "father", None),
    ],
)
def test_compose(r1, r2, expected):
    assert compose(r1, r2) == expected


def test_conclusion_names_the_gender_of_the_last_person():
    assert all(GENDER[r] == GENDER[r2] for (_, r2), r in RULES.items())
    assert Counter(GENDER.values()) == {"male": 10, "female": 10}


def fold(chain):
    """All conclusions of a chain, by splitting it in two at every place (no table)."""
    if len(chain) == 1:
        return {chain[0]}
    halves = ((fold(chain[:cut]), fold(chain[cut:])) for cut in range(1, len(chain)))
    return {compose(a, b) for left, right in halves for a in left for b in right} - {None}


@pytest.mark.parametrize(
    "chain",
    [
        ("wife", "son", "grandmother"),
        ("brother", "mother", "son", "grandfather"),
        ("daughter", "sister", "son", "sister", "uncle"),
        ("uncle", "uncle", "son"),
    ],
)
def test_conclusions_are_those_of_all_bracketings(chain):
    table = conclusions(chain)
    assert len(table) == len(chain) * (len(chain) + 1) // 2
    for (start, stop), found in table.items():
        assert found == fold(chain[start:stop])


def test_a_chain_may_leave_the_answer_open():
    assert conclusions(("wife", "son", "grandmother"))[0, 3] == {"mother", "mother-in-law"}
