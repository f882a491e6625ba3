"""ProofWriter's English, both ways."""

import random

import pytest
from proofwriter_oracle import random_literal, random_rule

from reckoning_betty.data.proofwriter.logic import VARIABLE, Literal, Rule
from reckoning_betty.data.proofwriter.parsing import NotUnderstood, parse, parse_fact, split_sentences
from reckoning_betty.data.proofwriter.rendering import GENERIC, has_short_forms, render
from reckoning_betty.data.proofwriter.words import WORD, base_form, third_person

X = VARIABLE


def rule(*literals):
    return Rule(literals[:-1], literals[-1])


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Dave is cold.", Literal("Dave", "cold")),
        ("Dave is not cold .", Literal("Dave", "cold", "", False)),
        ("The bald eagle is young.", Literal("the bald eagle", "young")),
        ("The cat chases the bald eagle.", Literal("the cat", "chase", "the bald eagle")),
        ("The bald eagle does not chase Bob.", Literal("the bald eagle", "chase", "Bob", False)),
        ("Bob sees the dog.", Literal("Bob", "see", "the dog")),
        (
            "If something is quiet and cold then it is smart.",
            rule(Literal(X, "quiet"), Literal(X, "cold"), Literal(X, "smart")),
        ),
        (
            "If someone is red and not kind then they do not like the cat.",
            rule(Literal(X, "red"), Literal(X, "kind", "", False), Literal(X, "like", "the cat", False)),
        ),
        ("Red, cold things are round.", rule(Literal(X, "red"), Literal(X, "cold"), Literal(X, "round"))),
        ("All quiet people are not rough.", rule(Literal(X, "quiet"), Literal(X, "rough", "", False))),
        (
            "If the cat sees the dog and the dog is not red then the dog visits the cat.",
            rule(
                Literal("the cat", "see", "the dog"),
                Literal("the dog", "red", "", False),
                Literal("the dog", "visit", "the cat"),
            ),
        ),
        (
            "If someone likes the cat and they are not big then the cat needs the dog.",
            rule(
                Literal(X, "like", "the cat"), Literal(X, "big", "", False), Literal("the cat", "need", "the dog")
            ),
        ),
        (
            "If something eats the cat and it does not see the dog then it is red.",
            rule(Literal(X, "eat", "the cat"), Literal(X, "see", "the dog", False), Literal(X, "red")),
        ),
        (
            "If Bob is big and Bob is red and cold then Bob is kind .",
            rule(Literal("Bob", "big"), Literal("Bob", "red"), Literal("Bob", "cold"), Literal("Bob", "kind")),
        ),
    ],
)  # fmt: skip
def test_what_sentences_say(text, meaning):
    assert parse(text) == meaning


@pytest.mark.parametrize("generic", GENERIC)
@pytest.mark.parametrize("form", ["if", "all", "plain"])
def test_back_and_forth(generic, form):
    rng = random.Random(5)
    shortened = 0
    for _ in range(400):
        literal, made = random_literal(rng), random_rule(rng)
        assert parse_fact(render(literal)) == literal
        premises = sorted(made.premises, key=lambda premise: premise.subject != X)
        made = Rule(tuple(premises), made.conclusion)
        if made.conclusion.subject == X and not made.is_general:
            continue
        text = render(made, generic, form)
        assert parse(text) == made
        assert text.split() == WORD.findall(text)
        shortened += not text.startswith("If")
        assert text.startswith("If") or has_short_forms(made)
    assert (shortened > 10) == (form != "if")


def test_forms_of_a_rule():
    made = parse("If something is red and cold then it is not kind.")
    assert render(made, "someone", "all") == "All red , cold people are not kind ."
    assert render(made, "something", "plain") == "Red , cold things are not kind ."
    assert render(made, "someone") == "If someone is red and cold then they are not kind ."
    assert render(parse("If someone likes Bob and Bob is red then they do not see Bob."), "something") == (
        "If something likes Bob and Bob is red then it does not see Bob ."
    )
    with pytest.raises(ValueError, match="no variable"):
        render(Rule((Literal("Bob", "red"), Literal(X, "kind")), Literal(X, "big")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bob.",
        "Bob is.",
        "Bob is very cold.",
        "It is cold.",
        "Someone is cold.",
        "Chases the dog.",
        "Bob does chase the dog.",
        "If Bob is red Bob is kind.",
        "If Bob is red then it is kind.",
        "If Bob then Bob is kind.",
        "All people are kind.",
        "If someone is red and the then they are kind.",
        "Is Bob cold?",
    ],
)
def test_other_sentences_are_not_understood(text):
    with pytest.raises(NotUnderstood):
        parse(text)


def test_a_rule_is_no_hypothesis():
    with pytest.raises(NotUnderstood):
        parse_fact("All red people are kind.")


def test_verbs():
    for base, third in (
        ("chase", "chases"),
        ("watch", "watches"),
        ("carry", "carries"),
        ("play", "plays"),
        ("go", "goes"),
    ):
        assert third_person(base) == third
        assert base_form(third) == base
    assert base_form("chase") == "chase"


def test_splitting():
    assert split_sentences(" Bob is red. All red things are big.\nBob is kind. ") == [
        "Bob is red.",
        "All red things are big.",
        "Bob is kind.",
    ]
    assert split_sentences("") == []
