"""Small files in the format of CLUTRR, and how its facts and questions are read back."""

import csv
import gzip
import re

from reckoning_betty.data.clutrr.kinship import conclusions

COLUMNS = """
id story query text_query target text_target clean_story proof_state f_comb task_name story_edges edge_types query_edge
genders syn_story node_mapping task_split
"""
COLUMNS = ["", *COLUMNS.split()]
FACT = re.compile(r"(\w+) is the ([\w-]+) of (\w+) \.")
QUESTION = re.compile(r"How is (\w+) related to (\w+) \?")


def row(number=0, **changed):
    """A row of three hops from Tom to Lea: his sister Ann's mother Eva has a daughter Lea."""
    n = f"{number}" if number else ""
    tom, ann, eva, lea = (name + n for name in ("Tom", "Ann", "Eva", "Lea"))
    cells = dict.fromkeys(COLUMNS, "")
    cells |= {
        "": str(number),
        "id": f"row-{number}",
        "story": f"[{eva}] called her daughter [{ann}]. It was Mother's Day! [{tom}] and his sister [{ann}] ran. "
        f"[{lea}]'s mom, [{eva}], smiled.",
        "clean_story": f"[{tom}] and his sister [{ann}] ran. [{eva}] called her daughter [{ann}]. It was Mother's Day! "
        f"[{lea}]'s mom, [{eva}], smiled.",
        "query": str((tom, lea)),
        "target": "sister",
        "story_edges": "[(0, 1), (1, 2), (2, 3)]",
        "edge_types": "['sister', 'mother', 'daughter']",
        "query_edge": "(0, 3)",
        "genders": f"{tom}:male,{ann}:female,{eva}:female,{lea}:female",
        "proof_state": str(
            [
                {(tom, "sister", lea): [(tom, "sister", ann), (ann, "sister", lea)]},
                {(ann, "sister", lea): [(ann, "mother", eva), (eva, "daughter", lea)]},
            ]
        ),
        "task_name": "task_1.3",
        "task_split": "train",
    }
    assert set(changed) <= set(cells)
    return cells | changed


def write(path, rows, columns=COLUMNS):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def triples(task):
    return [(m[3], m[2], m[1]) for m in map(FACT.fullmatch, task.facts)]


def chains(edges, a, b):
    """Every order of all the edges in which each begins where the one before it ends, from a to b."""
    if not edges:
        return [[]] if a == b else []
    return [
        [edge, *rest]
        for place, edge in enumerate(edges)
        if edge[0] == a
        for rest in chains(edges[:place] + edges[place + 1 :], edge[2], b)
    ]


def check_symbolic(task):
    """The facts can be joined to a chain between the people of the question, and the rules conclude the answer."""
    every = triples(task)
    for question in task.questions:
        b, a = QUESTION.fullmatch(question.text).groups()
        part = [every[place] for place in question.relevant]
        assert question is task.questions[0] or len(set(part)) == question.hops >= 2
        if len(set(every)) == len(every):
            found = chains(part, a, b)
            assert found
            assert any(question.answer in conclusions([word for _, word, _ in c])[0, len(c)] for c in found)
