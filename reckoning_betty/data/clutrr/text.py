"""How triples ``(X, r, Y)`` ("Y is X's r") become facts, questions and the words that a tokenizer must know."""

import random
import re
from collections.abc import Iterable

from reckoning_betty.data.clutrr.kinship import FEMALE, MALE, RELATIONS

WORD = re.compile(r"\w+(?:-\w+)*|'s|[^\w\s]")
PRONOUNS = {
    MALE: {"he": "he", "him": "him", "his": "his"},
    FEMALE: {"he": "she", "him": "her", "his": "her"},
}
"""The pronouns of X by gender; templates are written with those of a man."""

SENTENCES: dict[str, tuple[str, ...]] = {
    "father": (
        "{x} borrowed a ladder from {his} father {y} .",
        "{y} taught {x} how to drive , as any father should .",
        "Whenever {x} is worried , {he} rings {his} father {y} .",
    ),
    "mother": (
        "{x} baked a cake for {his} mother {y} .",
        "{y} is proud of {x} and tells everyone that she is {his} mother .",
        "On Sunday {x} had lunch with {y} , {his} mother .",
    ),
    "son": (
        "{x} bought new boots for {his} son {y} .",
        "{x} packed a lunch box for {y} before {his} son left for school .",
        "{y} showed {x} the boat he had built , and no parent was ever prouder of a son .",
    ),
    "daughter": (
        "{x} went to the park with {his} daughter {y} .",
        "{y} asked {x} for help with homework , and {he} sat down with {his} daughter at once .",
        "{x} cheered loudly when {his} daughter {y} won the race .",
    ),
    "brother": (
        "{x} and {his} brother {y} repaired the old fence .",
        "{y} played chess against {x} and beat {him} , as a brother will .",
        "{x} shared a room with {y} , {his} brother .",
    ),
    "sister": (
        "{x} lent a book to {his} sister {y} .",
        "{y} , the sister of {x} , sings in the choir .",
        "{x} went swimming in the lake together with {his} sister {y} .",
    ),
    "husband": (
        "{x} and her husband {y} moved into a small house .",
        "{y} cooked dinner to surprise {x} , who loves her husband dearly .",
        "{x} danced all evening with {y} , her husband .",
    ),
    "wife": (
        "{x} gave flowers to his wife {y} .",
        "{y} married {x} last spring and is now his wife .",
        "{x} booked a journey to the sea for his wife {y} .",
    ),
    "grandfather": (
        "{x} listened to the stories of {his} grandfather {y} .",
        "{y} carved a whistle for {x} , who adores {his} grandfather .",
        "{x} went fishing with {y} , {his} grandfather .",
    ),
    "grandmother": (
        "{x} knitted a scarf with {his} grandmother {y} .",
        "{y} sent a letter to {x} , and {he} answered {his} grandmother the same day .",
        "{x} spent the holidays with {y} , {his} grandmother .",
    ),
    "grandson": (
        "{x} told a bedtime story to {his} grandson {y} .",
        "{y} came to stay with {x} , who spoils {his} grandson .",
        "{x} fed the ducks with {his} grandson {y} .",
    ),
    "granddaughter": (
        "{x} sewed a dress for {his} granddaughter {y} .",
        "{y} painted a picture of {x} , and {he} thanked {his} granddaughter warmly .",
        "{x} took {his} granddaughter {y} to the zoo .",
    ),
    "uncle": (
        "{x} visited {his} uncle {y} on the farm .",
        "{y} mended the bicycle of {x} , who is glad to have such an uncle .",
        "{x} got a postcard from {his} uncle {y} .",
    ),
    "aunt": (
        "{x} picked apples with {his} aunt {y} .",
        "{y} took {x} to the theatre , a treat that only an aunt would think of .",
        "{x} wrote a long message to {his} aunt {y} .",
    ),
    "nephew": (
        "{x} bought a drum for {his} nephew {y} .",
        "{y} stayed the night with {x} , who had missed {his} nephew .",
        "{x} helped {his} nephew {y} to learn the piano .",
    ),
    "niece": (
        "{x} gave a kite to {his} niece {y} .",
        "{y} rode a pony while {x} was watching {his} niece .",
        "{x} went to the circus with {y} , {his} niece .",
    ),
    "father-in-law": (
        "{x} painted the kitchen with {his} father-in-law {y} .",
        "{y} gets on well with {x} , for whom he is the best father-in-law .",
        "{x} drove {his} father-in-law {y} to the station .",
    ),
    "mother-in-law": (
        "{x} asked {his} mother-in-law {y} for the recipe .",
        "{y} praised the garden of {x} , which from a mother-in-law means a lot .",
        "{x} met {y} , {his} mother-in-law , at the market .",
    ),
    "son-in-law": (
        "{x} watched the match with {his} son-in-law {y} .",
        "{y} fixed the roof of {x} , who had asked {his} son-in-law for help .",
        "{x} offered a job to {his} son-in-law {y} .",
    ),
    "daughter-in-law": (
        "{x} welcomed {his} daughter-in-law {y} at the door .",
        "{y} lent her car to {x} , who had called {his} daughter-in-law .",
        "{x} planted roses with {his} daughter-in-law {y} .",
    ),
}


def words(text: str) -> list[str]:
    """The words and punctuation marks of a text: hyphenated words stay whole, a possessive 's stands alone."""
    return WORD.findall(text)


def fact_text(x: str, relation: str, y: str) -> str:
    """The symbolic form of a fact."""
    return f"{y} is the {relation} of {x} ."


def question_text(x: str, y: str) -> str:
    """The question whose answer is what ``y`` is to ``x``."""
    return f"How is {y} related to {x} ?"


def fact_sentence(x: str, relation: str, y: str, x_gender: str, rng: random.Random) -> str:
    """One of the sentences that tell the fact, chosen by ``rng``."""
    return rng.choice(SENTENCES[relation]).format(x=x, y=y, **PRONOUNS[x_gender])


def vocabulary(names: Iterable[str], form: str) -> list[str]:
    """Every word that facts (of this ``form``), questions and answers about people with these names can contain."""
    texts = [question_text("", ""), *RELATIONS, *names]
    if form == "sentences":
        sentences = [sentence for group in SENTENCES.values() for sentence in group]
        texts += [sentence.format(x="", y="", **own) for sentence in sentences for own in PRONOUNS.values()]
    else:
        texts.append(fact_text("", "", ""))
    return sorted({word for text in texts for word in words(text)})
