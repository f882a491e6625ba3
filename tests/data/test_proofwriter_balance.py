"""Nothing but reasoning tells the answers: what counts of words, and questions alone, let a reader guess."""

from collections import Counter

import pytest
import torch

from reckoning_betty.data.proofwriter import ProofWriterGenerator
from reckoning_betty.data.proofwriter.words import ANSWERS


def answers(tasks):
    return torch.tensor([ANSWERS.index(task.questions[0].answer) for task in tasks])


def counts(texts, vocabulary):
    """Bags of words, standardised by the caller."""
    column = {word: at for at, word in enumerate(vocabulary)}
    bags = torch.zeros(len(texts), len(column))
    for row, text in zip(bags, texts, strict=True):
        for word, number in Counter(text.split()).items():
            row[column[word]] = number
    return bags


def fitted(train, labels, test, gold):
    """Accuracy of multinomial logistic regression."""
    mean, spread = train.mean(0), train.std(0) + 1e-6
    train, test = (train - mean) / spread, (test - mean) / spread
    weights = torch.zeros(train.shape[1] + 1, len(ANSWERS), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=40)

    def loss():
        optimizer.zero_grad()
        found = torch.nn.functional.cross_entropy(train @ weights[1:] + weights[0], labels)
        found = found + 1e-3 * weights[1:].square().sum()
        found.backward()
        return found

    optimizer.step(loss)
    return ((test @ weights[1:] + weights[0]).argmax(1) == gold).float().mean().item()


def looked_up(train, test, feature):
    """Accuracy of the answer that was most frequent in training for this value of the feature."""
    table = {}
    for task in train:
        table.setdefault(feature(task), Counter())[task.questions[0].answer] += 1
    guesses = [table.get(feature(task), Counter(["true"])).most_common(1)[0][0] for task in test]
    return sum(guess == task.questions[0].answer for guess, task in zip(guesses, test, strict=True)) / len(test)


def is_rule(sentence):
    return sentence.startswith("If ") or bool({"people", "things"} & set(sentence.split()))


def drawn(**options):
    source = ProofWriterGenerator(sentences=12, **options)
    return source.vocabulary(), source.draw(0, 5000), source.draw(1, 2000)


# 2,000 guesses at 1/3 scatter by 0.011: 0.037 is three and a half times that.
NEAR_CHANCE = pytest.approx(1 / 3, abs=0.037)


@pytest.mark.parametrize("distractors", ["none", "all"])
def test_cues(distractors):
    """At "none" K has nothing but what is relevant, which is not all that a proof needs if the answer is unknown."""
    words, train, test = drawn(depths=(1, 2), distractors=distractors)
    labels, gold = answers(train), answers(test)

    def of_words(text):
        return fitted(counts([text(t) for t in train], words), labels, counts([text(t) for t in test], words), gold)

    assert of_words(lambda task: task.questions[0].text) == NEAR_CHANCE
    assert looked_up(train, test, lambda task: "not" in task.questions[0].text) == NEAR_CHANCE
    assert looked_up(train, test, lambda task: task.questions[0].text.split()[-2]) == NEAR_CHANCE
    sizes = looked_up(train, test, lambda task: (len(task.facts), sum(map(is_rule, task.facts))))
    assert sizes == NEAR_CHANCE
    bag = of_words(lambda task: " ".join(task.facts))
    together = of_words(lambda task: " ".join((*task.facts, task.questions[0].text)))
    if distractors == "all":
        assert bag == NEAR_CHANCE
        assert together == NEAR_CHANCE
    else:
        assert bag < 0.41
        assert together < 0.41


def test_answers_are_balanced_at_each_depth():
    tasks = ProofWriterGenerator(depths=(1, 2, 3)).draw(0, 3000)
    found = Counter((task.questions[0].hops, task.questions[0].answer) for task in tasks)
    assert len(found) == 9
    assert all(270 <= count <= 400 for count in found.values()), found


def test_the_fit_finds_a_cue_where_there_is_one():
    """In theories without negation, as in much of the published data, "not" tells the half."""
    words, train, test = drawn(depths=(2,), negation="without")
    questions = [counts([task.questions[0].text for task in tasks], words) for tasks in (train, test)]
    assert fitted(questions[0], answers(train), questions[1], answers(test)) > 0.6
