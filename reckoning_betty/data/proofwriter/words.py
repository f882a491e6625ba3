"""The words of generated theories, ProofWriter's own, and how its verbs change."""

import re

_ATTRIBUTES = "big blue cold furry green kind nice quiet red rough round smart white young"
_VERBS = "chase eat like need see visit"
_PEOPLE = "Anne Bob Charlie Dave Erin Fiona Gary Harry Ivan Julia Kevin Laura Mark Nina Oscar Paula"
_ANIMALS = "bear cat cow dog lion mouse rabbit squirrel tiger goat fox horse duck frog sheep crow"
_GLUE = "If then and not is are does do it they something someone All people things because . ,"

ATTRIBUTES = tuple(_ATTRIBUTES.split())
VERBS = tuple(_VERBS.split())
PEOPLE = tuple(_PEOPLE.split())
ANIMALS = tuple(f"the {animal}" for animal in _ANIMALS.split())
"""Entities are named as they stand within a sentence."""

ANSWERS = ("true", "false", "unknown")
GLUE = tuple(_GLUE.split())
"""Everything else that a sentence can contain, and the word that joins an answer to what it rests on."""

WORD = re.compile(r"\w+|[^\w\s]")


def third_person(verb: str) -> str:
    """chase -> chases."""
    if re.search(r"(?:[sxz]|[cs]h|o)$", verb):
        return verb + "es"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + "s"


def base_form(verb: str) -> str:
    """chases -> chase; the word itself if it is no third person."""
    if re.search(r"(?:[cs]h|[xo]|ss|zz)es$", verb):
        return verb[:-2]
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    return verb.removesuffix("s")


def capitalised(sentence: str) -> str:
    """With a capital at its beginning, and nothing else changed."""
    return sentence[:1].upper() + sentence[1:]


def vocabulary(names: tuple[str, ...]) -> list[str]:
    """Every word of generated facts, rules, questions and answers about these names, sorted."""
    verbs = [form for verb in VERBS for form in (verb, third_person(verb))]
    texts = (*ATTRIBUTES, *verbs, *names, *ANSWERS, *GLUE)
    return sorted({word for text in texts for part in (text, capitalised(text)) for word in WORD.findall(part)})
