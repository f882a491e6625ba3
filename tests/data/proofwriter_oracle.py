"""Open-world logic a second time, as plainly as can be, and random theories to compare on."""

import random

from reckoning_betty.data.proofwriter.logic import VARIABLE, Literal, Rule, literals_of

ENTITIES = ("Ann", "Ben", "the cat")


def put(literal, entity):
    return Literal(entity if literal.subject == VARIABLE else literal.subject, *literal[1:])


def rounds(theory):
    """What holds after 0, 1, 2, ... applications of all rules to all entities, until nothing new comes."""
    named = {name for s in theory for literal in literals_of(s) for name in (literal.subject, literal.object)}
    entities = named - {VARIABLE, ""}
    stages = [{sentence for sentence in theory if not isinstance(sentence, Rule)}]
    while True:
        now = stages[-1]
        after = now | {
            put(rule.conclusion, entity)
            for rule in theory
            if isinstance(rule, Rule)
            for entity in entities
            if all(put(premise, entity) in now for premise in rule.premises)
        }
        if after == now:
            return stages
        stages.append(after)


def depths(theory):
    """The first stage at which each literal holds."""
    found = {}
    for number, stage in enumerate(rounds(theory)):
        for literal in stage:
            found.setdefault(literal, number)
    return found


def random_literal(rng, subject=None):
    subject = subject or rng.choice(ENTITIES)
    if rng.random() < 0.6:
        return Literal(subject, rng.choice(("red", "kind", "cold", "big")), "", rng.random() < 0.8)
    return Literal(subject, rng.choice(("like", "chase")), rng.choice(ENTITIES), rng.random() < 0.8)


def random_rule(rng):
    subject = VARIABLE if rng.random() < 0.6 else None
    premises = [random_literal(rng, subject)]
    premises += [random_literal(rng, rng.choice((subject, None))) for _ in range(rng.choice((0, 1, 1, 2)))]
    return Rule(tuple(premises), random_literal(rng, rng.choice((subject, None))))


def random_theory(rng):
    facts = [random_literal(rng) for _ in range(rng.randint(1, 6))]
    theory = [*facts, *(random_rule(rng) for _ in range(rng.randint(1, 8)))]
    rng.shuffle(theory)
    return theory


def random_theories(count, seed=0):
    rng = random.Random(seed)
    return [random_theory(rng) for _ in range(count)]


def each_is_looked_for(search, hypothesis):
    """Whether each sentence is or concludes the hypothesis, its negation, or a premise of a rule before it."""
    wanted = [hypothesis, hypothesis.negation]
    for sentence in search:
        end = sentence.conclusion if isinstance(sentence, Rule) else sentence
        same = [goal.subject for goal in wanted if goal[1:] == end[1:]]
        if not same or not (end.subject in same or VARIABLE in (end.subject, *same)):
            return False
        wanted += sentence.premises if isinstance(sentence, Rule) else ()
    return True
