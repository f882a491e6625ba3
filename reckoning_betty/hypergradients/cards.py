"""The methods' cards as a Markdown table: what ``launch/compare.py --list`` prints and the README shows."""

from dataclasses import astuple

from reckoning_betty.hypergradients.registry import METHODS

HEAD = (
    "`hypergradient=`",
    "derivatives of the inner loss",
    "right if",
    "gradient to the inner rates",
    "kept for it",
    "passes over the facts",
    "fast weights",
    "inner optimizers",
)


def method_table() -> str:
    """One row for each method."""
    rows = [(f"`{name}`", *astuple(method.card)) for name, method in METHODS.items()]
    return "\n".join(["| " + " | ".join(row) + " |" for row in (HEAD, ("---",) * len(HEAD), *rows)])
