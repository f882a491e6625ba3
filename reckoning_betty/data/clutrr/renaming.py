"""Other names for the people of a story. Until it is named for good, a task carries its names in [brackets]."""

import random
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reckoning_betty.data.clutrr.kinship import FEMALE, MALE
from reckoning_betty.data.task import StoredTasks, Task
from reckoning_betty.errors import UserError

Names = Literal["original", "shuffled", "letters"]

BRACKETED = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class BracketedTask(Task):
    """A task whose people stand in brackets in all texts. ``genders`` has them all, in a fixed order."""

    genders: Mapping[str, str]

    def named(self, names: Mapping[str, str]) -> Task:
        """The task with everyone called by the new name (by the old one if there is none), without brackets."""

        def name(text: str) -> str:
            return BRACKETED.sub(lambda match: names.get(match[1], match[1]), text)

        questions = tuple(replace(question, text=name(question.text)) for question in self.questions)
        return Task(facts=tuple(map(name, self.facts)), questions=questions, identifier=self.identifier)


@dataclass(frozen=True, slots=True)
class LetterNames:
    """Single letters as names, another draw for every story; genders play no part, as in CLUTRR-SG."""

    letters: str

    def choose(self, genders: Mapping[str, str], rng: random.Random) -> dict[str, str]:
        if len(genders) > len(self.letters):
            raise UserError(
                f"a story has {len(genders)} people, more than the {len(self.letters)} letters that names=letters has; "
                "give names=original."
            )
        return dict(zip(genders, rng.sample(self.letters, len(genders)), strict=True))


@dataclass(frozen=True, slots=True)
class PooledNames:
    """Names from the whole training set; men get men's names and women women's as long as there are any left."""

    pool: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, tasks: Sequence[BracketedTask]) -> "PooledNames":
        """All names of the tasks; one that both men and women bear counts for whoever comes first."""
        found: dict[str, str] = {}
        for bracketed in tasks:
            for name, gender in bracketed.genders.items():
                found.setdefault(name, gender)
        return cls({g: tuple(sorted(name for name in found if found[name] == g)) for g in (MALE, FEMALE)})

    def choose(self, genders: Mapping[str, str], rng: random.Random) -> dict[str, str]:
        shuffled = {gender: rng.sample(names, len(names)) for gender, names in self.pool.items()}
        chosen, left_over = {}, []
        for person, gender in genders.items():
            if shuffled[gender]:
                chosen[person] = shuffled[gender].pop()
            else:
                left_over.append(person)
        # The pool holds at least as many names as any story of the training set, whatever the genders.
        spare = shuffled[MALE] + shuffled[FEMALE]
        return chosen | {person: spare.pop() for person in left_over}


def letter_names(form: str) -> LetterNames:
    """A to Z; in sentences without A and I, which are English words there."""
    return LetterNames("".join(c for c in string.ascii_uppercase if form == "symbolic" or c not in "AI"))


@dataclass(slots=True)
class RenamedTasks:
    """Stored training tasks (bracketed), visited in epochs; at every visit the people get other names."""

    order: StoredTasks
    names: LetterNames | PooledNames
    seed: int

    def draw(self, step: int, count: int) -> list[Task]:
        tasks = []
        for index, task in enumerate(self.order.draw(step, count)):
            rng = random.Random(f"{self.seed} names {step} {index}")
            tasks.append(task.named(self.names.choose(task.genders, rng)))
        return tasks
