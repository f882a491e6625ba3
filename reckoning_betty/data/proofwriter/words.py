"""The words of generated theories, ProofWriter's own, and how its verbs change."""

import re

ATTRIBUTES = tuple("big blue cold furry green kind nice quiet red rough round smart white young".split())
VERBS = tuple("chase eat like need see visit".split())
PEOPLE = tuple(
    "Anne Bob Charlie Dave Erin Fiona Gary Harry Ivan Julia Kevin Laura Mark Nina Oscar Paula".split()
)
ANIMALS = tuple(
    f"the {animal}"
    for animal in "bear cat cow dog lion mouse rabbit squirrel tiger goat fox horse duck frog sheep crow".split()
)
"""Entities are named as they stand within a sentence."""

ANSWERS = ("true", "false", "unknown")
GLUE = tuple(
    "If then and not is are does do it they something someone All people things because . ,".split()
)
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
    for end, instead in (("s", ""), ("es", ""), ("ies", "y")):
        if verb.endswith(end):
            base = verb.removesuffix(end) + instead
            if third_person(base) == verb:
                return base
    return verb


def capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def vocabulary(names: tuple[str, ...]) -> list[str]:
    """Every word of generated facts, rules, questions and answers about these names, sorted."""
    verbs = [form for verb in VERBS for form in (verb, third_person(verb))]
    texts = (*ATTRIBUTES, *verbs, *names, *ANSWERS, *GLUE)
    return sorted({word for text in texts for part in (text, capitalised(text)) for word in WORD.findall(part)})
