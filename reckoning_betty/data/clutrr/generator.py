"""CLUTRR tasks made on the fly: an endless supply for training, and fixed sets for validation and test."""

import functools
import itertools
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from reckoning_betty.data.clutrr import text
from reckoning_betty.data.clutrr.family import Family, grow_family
from reckoning_betty.data.clutrr.kinship import DERIVABLE, FEMALE, MALE
from reckoning_betty.data.clutrr.names import name_pools
from reckoning_betty.data.clutrr.stories import NOISE_PEOPLE, Noise, Story, tell_story
from reckoning_betty.data.curriculum import lengths_after, refuse_impossible_curriculum
from reckoning_betty.data.held_out import Split, home_of
from reckoning_betty.data.task import Question, Splits, Task
from reckoning_betty.errors import UserError

Form = Literal["symbolic", "sentences"]

HOPS = range(2, 11)
FAMILIES = 24
"""Trees per seed. They are used over and over with other names, since growing one takes longer than telling a story."""

PATIENCE = 400
"""Failures after which another answer is tried, lest a rare one stall the drawing."""

FRUITLESS_DRAWS = 5000
"""Draws in a row without a new story after which a fixed set is taken to be exhausted."""


class Told(NamedTuple):
    """A story with the names of its people, by number in its family."""

    story: Story
    names: dict[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClutrrGenerator:
    """Kinship stories with names from a pool; as a ``TaskSource`` it draws from the training split.

    Every story (its facts with their names, and its first question) belongs to one of the splits for good, whatever
    the options and the seed: 80 % to train, 10 % each to validation and test.

    hops: numbers of facts that the first question joins, from 2 to 10; each is equally likely (one that stands there
        twice is drawn twice as often), and so are the answers.
    noise: distractors added to every story. supporting: a two-fact detour around one fact of the chain; irrelevant:
        one or two facts that lead from the chain to new people; disconnected: one or two facts about other people.
    families: stories that are told together, of different families and with facts in one random order. The first
        question is about the first of them, further ones about any. One story is a chain with its question about the
        ends, so that K tells what is asked; of several it does not tell which.
    form: "symbolic" facts of one pattern, or varied "sentences".
    num_names: size of the pool of names, half men's and half women's.
    unseen_names: the test has a pool of its own, of the same size.
    questions_per_task: further questions, after the first one, ask about people in between, as far as there are any.
    curriculum_tasks: training starts with the shortest stories, and has all ``hops`` after so many tasks.
    """

    hops: tuple[int, ...] = (2, 3)
    noise: Noise = "none"
    families: int = 1
    form: Form = "symbolic"
    num_names: int = 20
    unseen_names: bool = False
    questions_per_task: int = 1
    curriculum_tasks: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.noise not in get_args(Noise):
            raise UserError(f"noise is {self.noise!r}, but it must be one of {', '.join(get_args(Noise))}.")
        if self.form not in get_args(Form):
            raise UserError(f"form is {self.form!r}, but it must be one of {', '.join(get_args(Form))}.")
        for key in ("families", "questions_per_task"):
            if getattr(self, key) < 1:
                raise UserError(f"{key} is {getattr(self, key)}, but it must be 1 or more.")
        refuse_impossible_curriculum(self.curriculum_tasks)
        name_pools(self.num_names, unseen=self.unseen_names)
        if not self.hops:
            raise UserError("hops is empty, but it must name at least one number from 2 to 10, such as 2,3.")
        for hops in sorted(self.hops, reverse=True):  # the longest needs the most names
            self.check_hops(hops)

    def draw(self, step: int, count: int) -> list[Task]:
        """The ``count`` training tasks of outer step ``step``."""
        hops = lengths_after(step * count, self.hops, self.curriculum_tasks)
        return [self._drawn(step, index, hops) for index in range(count)]

    def stories(self, split: Split, hops: int, count: int) -> list[Task]:
        """``count`` different stories of one split with this number of hops; the first ones do not depend on ``count``.

        UserError if the names allow fewer.
        """
        if split not in get_args(Split):
            raise UserError(f"split is {split!r}, but it must be one of {', '.join(get_args(Split))}.")
        self.check_hops(hops)
        tasks: dict[str, Task] = {}
        rng = random.Random(f"{self.seed} {split} {hops}")
        fruitless = 0
        attempts = self._attempts(split, rng, (hops,))
        while len(tasks) < count:
            key, home, told = next(attempts)
            if home == split and key not in tasks:
                fruitless = 0
                identifier = f"clutrr-{split}-hops{hops}-seed{self.seed}-{len(tasks)}"
                tasks[key] = self._task(self._with_others(told, split, rng, self.hops), rng, identifier)
                continue
            fruitless += 1
            if fruitless == FRUITLESS_DRAWS:
                raise UserError(
                    f"{count} different {split} stories of {hops} hops were asked for, but with num_names="
                    f"{self.num_names} only {len(tasks)} were found; ask for fewer or give a larger num_names."
                )
        return list(tasks.values())

    def splits(self, *, validation: int, test: int, test_hops: tuple[int, ...] = ()) -> Splits:
        """This source for training, with ``validation`` and ``test`` stories for each number of hops.

        The test asks for ``test_hops``, by default for the numbers of hops of training.
        """
        return Splits(
            train=self,
            validation=[
                task for hops in sorted(set(self.hops)) for task in self.stories("validation", hops, validation)
            ],
            test=[task for hops in sorted(set(test_hops or self.hops)) for task in self.stories("test", hops, test)],
            vocabulary=self.vocabulary(),
        )

    def vocabulary(self) -> list[str]:
        """Every word that a task of any split can contain, sorted."""
        pools = name_pools(self.num_names, unseen=self.unseen_names)
        return text.vocabulary({name for pool in pools for group in pool.values() for name in group}, self.form)

    def check_hops(self, hops: int) -> None:
        """UserError where no story of this length can be told: no such length, or too few names."""
        if hops not in HOPS:
            raise UserError(f"hops is {hops}, but it must lie between {HOPS[0]} and {HOPS[-1]}.")
        people = hops + 1 + (self.families - 1) * (max(self.hops) + 1) + self.families * NOISE_PEOPLE[self.noise]
        several = self.families > 1  # each half of the pool has to do for all, or some stories would never be drawn
        needed = 2 * people if several else people
        if self.num_names < needed:
            raise UserError(
                f"num_names is {self.num_names}, but a story of {hops} hops with noise={self.noise}"
                f"{f' and families={self.families}' if several else ''} can have {people} people; give "
                f"num_names={needed} or more{', so that there are enough of either gender' if several else ''}."
            )

    def _drawn(self, step: int, index: int, hops: Sequence[int]) -> Task:
        rng = random.Random(f"{self.seed} draw {step} {index}")
        stories = self._with_others(self._first_of_home("train", rng, hops), "train", rng, hops)
        return self._task(stories, rng, f"clutrr-train-seed{self.seed}-step{step}-{index}")

    def _with_others(self, told: Told, split: Split, rng: random.Random, hops: Sequence[int]) -> list[Told]:
        """The story and those that are told together with it, of this split too, with names that are still free."""
        stories = [told]
        while len(stories) < self.families:
            taken = {name for one in stories for name in one.names.values()}
            stories.append(self._first_of_home(split, rng, hops, taken))
        return stories

    def _first_of_home(
        self, split: Split, rng: random.Random, hops: Sequence[int], taken: Collection[str] = ()
    ) -> Told:
        return next(told for _, home, told in self._attempts(split, rng, hops, taken) if home == split)

    def _attempts(
        self, split: Split, rng: random.Random, hops: Sequence[int], taken: Collection[str] = ()
    ) -> Iterator[tuple[str, Split, Told]]:
        """Endless stories with names for ``split`` that are not ``taken``, each with its key and the split of that."""
        train_pool, test_pool = name_pools(self.num_names, unseen=self.unseen_names)
        whole = test_pool if split == "test" else train_pool
        pool = {gender: tuple(name for name in group if name not in taken) for gender, group in whole.items()}
        while True:
            # Settled before the story: long stories and those about in-laws fail more often and must not become rarer.
            length, answer = rng.choice(hops), rng.choice(DERIVABLE)
            for _ in range(PATIENCE):
                family = _family(self.seed, rng.randrange(FAMILIES))
                story = tell_story(family, answer, length, self.noise, rng)
                if story is not None and (names := _named(story, pool, rng)) is not None:
                    key = _key(story, names)
                    yield key, home_of(key), Told(story, names)
                    break

    def _task(self, stories: list[Told], rng: random.Random, identifier: str) -> Task:
        """Put the stories into words, all facts in random order."""
        edges = [
            (number, edge)
            for number, (story, _) in enumerate(stories)
            for edge in (*itertools.pairwise(story.chain), *story.noise)
        ]
        rng.shuffle(edges)
        place = {edge: position for position, edge in enumerate(edges)}
        whole = (0, (0, len(stories[0].story.chain) - 1))
        asked = [whole]
        if self.questions_per_task > 1:
            others = [(number, stretch) for number, (story, _) in enumerate(stories) for stretch in story.derived]
            others.remove(whole)
            asked += rng.sample(others, min(len(others), self.questions_per_task - 1))
        return Task(
            facts=tuple(self._fact(stories[number], edge, rng) for number, edge in edges),
            questions=tuple(self._question(stories[number], number, stretch, place) for number, stretch in asked),
            identifier=identifier,
        )

    def _question(
        self, told: Told, number: int, stretch: tuple[int, int], place: dict[tuple[int, tuple[int, int]], int]
    ) -> Question:
        (start, stop), (story, names) = stretch, told
        chain = story.chain[start : stop + 1]
        return Question(
            text=text.question_text(names[chain[0]], names[chain[-1]]),
            answer=story.derived[stretch],
            hops=stop - start,
            relevant=tuple(sorted(place[number, edge] for edge in itertools.pairwise(chain))),
        )

    def _fact(self, told: Told, edge: tuple[int, int], rng: random.Random) -> str:
        (x, y), (story, names) = edge, told
        relation = story.family.relations[edge]
        if self.form == "symbolic":
            return text.fact_text(names[x], relation, names[y])
        return text.fact_sentence(names[x], relation, names[y], story.family.genders[x], rng)


@functools.cache
def _family(seed: int, index: int) -> Family:
    return grow_family(random.Random(f"{seed} family {index}"))


def _named(story: Story, pool: dict[str, tuple[str, ...]], rng: random.Random) -> dict[int, str] | None:
    """A different name for everyone; None if the story has more men or women than the pool has names for."""
    names = {}
    for gender in (MALE, FEMALE):
        group = [person for person in story.people if story.family.genders[person] == gender]
        if len(group) > len(pool[gender]):
            return None
        names.update(zip(group, rng.sample(pool[gender], len(group)), strict=True))
    return names


def _key(story: Story, names: dict[int, str]) -> str:
    """The story regardless of wording and order: its facts and its first question."""
    edges = (*itertools.pairwise(story.chain), *story.noise)
    facts = sorted(f"{names[x]} {story.family.relations[x, y]} {names[y]}" for x, y in edges)
    return "\n".join((*facts, f"{names[story.chain[0]]} ? {names[story.chain[-1]]}"))
