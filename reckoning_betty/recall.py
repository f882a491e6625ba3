"""Knowledge recall: which of its facts a model names behind its answer, against those that the answer needs."""

import re
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from reckoning_betty.data.task import Task

FOREIGN = -1
"""The place of what is no fact of the task."""

Table = dict[str, dict[str, float | int]]
"""{hops: {"n": questions, "exact": share of them, "precision": mean, "recall": mean}}, all but n in [0, 1]."""


def named_facts(text: str, facts: Sequence[str]) -> list[int]:
    """The places in ``facts`` of those that ``text`` names one after another; all between two of them is one FOREIGN.

    A fact stands at the text's start, behind another fact, or behind a mark that ends facts: a rule that concludes it
    does not name it. Spaces do not count. Of several facts at one place the longest is taken. Equal facts have the
    place of the first.
    """
    text, places = _squeezed(text), _places(facts)
    any_fact = re.compile("|".join(map(re.escape, sorted(places, key=len, reverse=True))) or "(?!)")
    marks = "".join({fact[-1] for fact in places if not fact[-1].isalnum()})
    foreign = re.compile(f"[^{re.escape(marks)}]*.?" if marks else ".", re.DOTALL)
    named: list[int] = []
    at = 0
    while at < len(text):
        fact = any_fact.match(text, at)
        if fact:
            named.append(places[fact.group()])
        elif named[-1:] != [FOREIGN]:
            named.append(FOREIGN)
        at = (fact or foreign.match(text, at)).end()
    return named


def recall_table(tasks: Sequence[Task], texts: Sequence[str]) -> Table:
    """Recall behind the answers to the tasks' first questions, by their hops in rising order.

    ``exact``: the named facts are the relevant ones, as sets, with nothing foreign among them (paper, section 4.5).
    ``precision``: relevant among named; ``recall``: named among relevant. Naming nothing has a precision of 0, unless
    nothing is relevant, which has a recall of 1 whatever is named.
    """
    rows: dict[int, list[tuple[bool, float, float]]] = defaultdict(list)
    for task, text in zip(tasks, texts, strict=True):
        question, places = task.questions[0], _places(task.facts)
        named, relevant = named_facts(text, task.facts), {places[_squeezed(task.facts[r])] for r in question.relevant}
        found = set(named) & relevant
        wrong = len(set(named) - relevant - {FOREIGN}) + named.count(FOREIGN)
        precision = len(found) / (len(found) + wrong) if named else float(not relevant)
        recall = len(found) / len(relevant) if relevant else 1.0
        rows[question.hops].append((found == relevant and not wrong, precision, recall))
    return {
        str(hops): {"n": len(given)}
        | {name: fmean(row[place] for row in given) for place, name in enumerate(("exact", "precision", "recall"))}
        for hops, given in sorted(rows.items())
    }


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _places(facts: Sequence[str]) -> dict[str, int]:
    return {_squeezed(fact): place for place, fact in reversed(list(enumerate(facts)))}
