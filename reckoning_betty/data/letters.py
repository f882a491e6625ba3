"""Random letters and questions about how often they occur: the paper's data for run time (section 4.4)."""

import itertools
import random
import string
from collections import Counter
from dataclasses import dataclass

from reckoning_betty.data.held_out import Split, home_of
from reckoning_betty.data.task import Question, Splits, Task
from reckoning_betty.errors import UserError, require
from reckoning_betty.models.word_tokenizer import words

LETTERS = string.ascii_lowercase
MOST_FREQUENT = "What is the most frequent letter ?"
"""The paper's question: 7 tokens of the word-level tokenizer, and the answer is one."""

MORE_FREQUENT = "Is {first} more frequent than {second} ?"
"""Ours, for further questions about the same facts: as many tokens, and the answer, yes or no, is one too."""

MOST_QUESTIONS = len(LETTERS)
"""Questions that all facts have answers to: the paper's, and whether its answer is more frequent than each other."""


FRUITLESS_DRAWS = 5000
"""Draws in a row without a new task after which a fixed set is taken to be exhausted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterGenerator:
    """Facts of random lower-case letters; as a ``TaskSource`` it draws from the training split.

    The first question is the paper's, whose answer is one letter: facts in which two letters are the most frequent
    are drawn again. The defaults are the paper's size, 8 facts of 127 letters, so that facts (1,016 tokens of the
    word-level tokenizer), a question (7) and its answer (1) are 1,024 tokens. No fact can be left out, so all are
    relevant and ``hops`` is their number.

    Facts belong to one of the splits for good, whatever the seed (``held_out.home_of``).

    facts: their number.
    letters_per_fact: tokens per fact.
    questions_per_task: after the first question, comparisons of pairs of letters which differ in how often they occur,
        each pair once; the run-time experiment asks up to 18 questions about the same facts.
    """

    facts: int = 8
    letters_per_fact: int = 127
    questions_per_task: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.facts >= 1, "data.facts", self.facts, "it must be at least 1")
        needed = "a fact's first letter predicts nothing, so it must be at least 2"
        require(self.letters_per_fact >= 2, "data.letters_per_fact", self.letters_per_fact, needed)
        allowed = f"it must be 1 to {MOST_QUESTIONS}, for so many different ones all facts have answers"
        asked = self.questions_per_task
        require(1 <= asked <= MOST_QUESTIONS, "data.questions_per_task", asked, allowed)

    def draw(self, step: int, count: int) -> list[Task]:
        """The ``count`` training tasks of outer step ``step``."""
        return [self._drawn(step, index) for index in range(count)]

    def tasks(self, split: Split, count: int) -> list[Task]:
        """``count`` different tasks of one split; the first ones do not depend on ``count``.

        UserError if the facts are so short that there are fewer.
        """
        rng = random.Random(f"{self.seed} {split}")
        found: dict[str, tuple[str, ...]] = {}
        fruitless = 0
        while len(found) < count:
            key, facts = self._facts(rng)
            new = key not in found and home_of(key) == split
            fruitless = 0 if new else fruitless + 1
            if new:
                found[key] = facts
            if fruitless == FRUITLESS_DRAWS:
                size = f"data.facts={self.facts} data.letters_per_fact={self.letters_per_fact}"
                raise UserError(
                    f"{count} different {split} tasks were asked for, but with {size} only {len(found)} were found; "
                    "ask for fewer or take more letters."
                )
        prefix = f"letters-{split}-seed{self.seed}"
        return [self._task(facts, f"{prefix}-{number}") for number, facts in enumerate(found.values())]

    def splits(self, *, validation: int, test: int) -> Splits:
        """This source for training, with so many tasks for validation and test."""
        return Splits(
            train=self,
            validation=self.tasks("validation", validation),
            test=self.tasks("test", test),
            vocabulary=vocabulary(),
        )

    def _drawn(self, step: int, index: int) -> Task:
        rng = random.Random(f"{self.seed} draw {step} {index}")
        while home_of((drawn := self._facts(rng))[0]) != "train":
            pass
        return self._task(drawn[1], f"letters-train-seed{self.seed}-step{step}-{index}")

    def _facts(self, rng: random.Random) -> tuple[str, tuple[str, ...]]:
        """Facts in which one letter is the most frequent, and their key: the same in any order."""
        while True:
            letters = rng.choices(LETTERS, k=self.facts * self.letters_per_fact)
            (_, most), *others = Counter(letters).most_common(2)
            if not others or others[0][1] < most:
                break
        size = self.letters_per_fact
        facts = tuple(" ".join(letters[start : start + size]) for start in range(0, len(letters), size))
        return "\n".join(sorted(facts)), facts

    def _task(self, facts: tuple[str, ...], identifier: str) -> Task:
        counts = Counter(" ".join(facts).split())
        asked = [(MOST_FREQUENT, counts.most_common(1)[0][0])]
        if self.questions_per_task > 1:
            rng = random.Random(f"{identifier} questions")
            pairs = [pair for pair in itertools.combinations(LETTERS, 2) if counts[pair[0]] != counts[pair[1]]]
            for pair in rng.sample(pairs, self.questions_per_task - 1):
                first, second = rng.sample(pair, 2)
                answer = "yes" if counts[first] > counts[second] else "no"
                asked.append((MORE_FREQUENT.format(first=first, second=second), answer))
        every = tuple(range(self.facts))
        questions = tuple(Question(text=text, answer=y, hops=self.facts, relevant=every) for text, y in asked)
        return Task(facts=facts, questions=questions, identifier=identifier)


def vocabulary() -> list[str]:
    """Every word that a task of any split can contain, sorted."""
    return sorted({*LETTERS, "yes", "no", *words(MOST_FREQUENT), *words(MORE_FREQUENT.format(first="", second=""))})
