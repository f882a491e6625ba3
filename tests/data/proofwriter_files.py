"""Small files in ProofWriter's three formats."""

import gzip
import json

COLOURS = ("red", "blue", "green", "white", "cold", "big", "kind", "rough")
NAMES = ("Anne", "Bob", "Dave", "Erin", "Gary")


def theory(number=0):
    """Facts and rules about one person, different for different numbers below 40: red, so kind, so big."""
    name, colour = NAMES[number % 5], COLOURS[number // 5 % 8]
    return [
        f"{name} is {colour}ish.",
        f"{name} is young.",
        f"All {colour}ish people are nice.",
        "If someone is nice and young then they are smart.",
        "If someone is nice and quiet then they are furry.",
        f"{name} is not round.",
    ], name


def questions(name):
    """Hypothesis, answer, proof depth and number of relevant sentences."""
    return [
        (f"{name} is young.", "True", 0, 1),
        (f"{name} is not nice.", "False", 1, 2),
        (f"{name} is smart.", "True", 2, 4),
        (f"{name} is furry.", "Unknown", 2, 3),
        (f"{name} is tall.", "Unknown", 0, 0),
    ]


def option_row(number=0, which=2, **changed):
    sentences, name = theory(number)
    hypothesis, answer, *_ = questions(name)[which]
    letter = {"True": "A", "False": "B", "Unknown": "C"}[answer]
    return {
        "id": f"row-{number}-{which}",
        "context": " ".join(sentences),
        "question": f"Based on the above information, is the following statement true, false, or unknown? {hypothesis}",
        "options": ["A) True", "B) False", "C) Unknown"],
        "answer": letter,
    } | changed


def flat_row(number=0, which=2, **changed):
    sentences, name = theory(number)
    hypothesis, answer, depth, _ = questions(name)[which]
    return {
        "id": f"AttNeg-OWA-D2-{number}",
        "maxD": 2,
        "NFact": 3,
        "NRule": 3,
        "theory": " ".join(sentences),
        "question": hypothesis,
        "answer": answer,
        "QDep": depth,
        "QLen": 1.0,
        "allProofs": "",
        "config": "depth-2",
    } | changed


def meta_row(number=0, **changed):
    sentences, name = theory(number)
    triples = [sentence for sentence in sentences if sentence.startswith(name)]
    rules = [sentence for sentence in sentences if not sentence.startswith(name)]
    words = {"True": True, "False": False, "Unknown": "Unknown"}
    return {
        "id": f"AttNeg-OWA-D2-{number}",
        "theory": " ".join(sentences),
        "triples": {f"triple{n}": {"text": text, "representation": ""} for n, text in enumerate(triples, 1)},
        "rules": {f"rule{n}": {"text": text, "representation": ""} for n, text in enumerate(rules, 1)}
        | {"rule9": None},
        "questions": {
            f"Q{n}": {"question": hypothesis, "answer": words[answer], "QDep": depth, "proofs": "[(triple1)]"}
            for n, (hypothesis, answer, depth, _) in enumerate(questions(name), 1)
        },
    } | changed


def write(path, rows):
    text = "\n".join(map(json.dumps, rows)) if ".jsonl" in path.suffixes else json.dumps(rows, indent=1)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path
