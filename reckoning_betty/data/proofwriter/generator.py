"""ProofWriter tasks made on the fly: an endless supply for training, and fixed sets for validation and test."""

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal as OneOf
from typing import get_args

from tqdm import tqdm

from reckoning_betty.data.curriculum import lengths_after, refuse_impossible_curriculum
from reckoning_betty.data.held_out import Split, home_of
from reckoning_betty.data.proofwriter.knowledge import Asked, choose, negated, read_levels, told
from reckoning_betty.data.proofwriter.logic import VARIABLE, Literal, Rule, Sentence
from reckoning_betty.data.proofwriter.outlines import (
    MOST_ENTITIES,
    Outline,
    make_outline,
    possible_sizes,
    smallest_size,
)
from reckoning_betty.data.proofwriter.rendering import GENERIC, render, render_fact
from reckoning_betty.data.proofwriter.structures import Kind
from reckoning_betty.data.proofwriter.words import ANIMALS, ANSWERS, ATTRIBUTES, PEOPLE, VERBS, vocabulary
from reckoning_betty.data.task import Splits, Task
from reckoning_betty.errors import UserError

Negation = OneOf["with", "without", "mixed"]

DEPTHS = range(1, 6)
SIZES = range(6, 31)
OUTLINES = 5000
"""Theories per seed, kind and depth for training. They are used over and over with other names and words, since making
one takes longer than naming it. Of 200 a model learns the answers by heart, and validation stands still."""

FRUITLESS_DRAWS = 2000
"""Draws in a row without a new task after which a fixed set is taken to be exhausted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofWriterGenerator:
    """Theories of ProofWriter's kind, open-world; as a ``TaskSource`` it draws from the training split.

    Every knowledge set (its sentences' meaning, names included) belongs to one of the splits for good, whatever the
    options and the seed: 80 % to train, 10 % each to validation and test.

    depths: proof depths of the first question, from 1 to 5; each is equally likely (one that stands there twice is
        drawn twice as often), and so are the answers. Unknown hypotheses have the depth that the search for them has.
    distractors: see ``read_levels``; of several, training draws one a task, and the other splits take turns.
    test_distractors: the same for validation and test alone; empty for ``distractors``.
    kinds: theories about people's attributes alone, or about animals' attributes and relations.
    negation: whether sentences say what is not so. Without, "not" in a question rules out that it is true.
    sentences: size of the theories, from which distractors are taken.
    num_names: size of the pools of people and of animals.
    questions_per_task: further questions, after the first one, are about the same sentences.
    relevant_sizes: numbers of relevant sentences in training; each that a depth has is equally likely (one that stands
        there twice is drawn twice as often). Empty for what comes by chance, few sentences more often than many.
    circular: share of the training tasks whose first question is unknown because what it asks for is met again as a
        premise on the way to it; more come by chance.
    curriculum_tasks: training starts with the shortest proofs and the fewest distractors, and has all ``depths`` and
        levels of ``distractors`` after so many tasks.
    """

    depths: tuple[int, ...] = (1, 2)
    distractors: str = "none"
    test_distractors: str = ""
    kinds: tuple[Kind, ...] = ("attributes", "relations")
    negation: Negation = "with"
    sentences: int = 16
    num_names: int = 8
    questions_per_task: int = 1
    relevant_sizes: tuple[int, ...] = ()
    circular: float = 0.0
    curriculum_tasks: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for split in get_args(Split):
            self._levels(split)
        refuse_impossible_curriculum(self.curriculum_tasks)
        for key, allowed in (("negation", get_args(Negation)), ("kinds", get_args(Kind))):
            for given in self.kinds if key == "kinds" else (self.negation,):
                if given not in allowed:
                    raise UserError(f"{key} is {given!r}, but it must be one of {', '.join(allowed)}.")
        for key, least, most in (
            ("questions_per_task", 1, 100),
            ("sentences", SIZES[0], SIZES[-1]),
            ("num_names", MOST_ENTITIES, len(PEOPLE)),
        ):
            if not least <= getattr(self, key) <= most:
                raise UserError(f"{key} is {getattr(self, key)}, but it must lie between {least} and {most}.")
        if not self.kinds:
            raise UserError("kinds is empty, but it must name attributes, relations or both.")
        if not self.depths:
            raise UserError("depths is empty, but it must name at least one proof depth from 1 to 5, such as 1,2.")
        if not 0 <= self.circular <= 1:
            raise UserError(f"circular is {self.circular}, but a share of the tasks lies between 0 and 1.")
        for depth in self.depths:
            self._check_depth(depth)
            self._check_relevant(depth)

    def draw(self, step: int, count: int) -> list[Task]:
        """The ``count`` training tasks of outer step ``step``."""
        depths = lengths_after(step * count, self.depths, self.curriculum_tasks)
        levels = lengths_after(step * count, self._levels("train"), self.curriculum_tasks)
        return [self._drawn(step, index, depths, levels) for index in range(count)]

    def theories(self, split: Split, depth: int, count: int) -> list[Task]:
        """``count`` different tasks of one split with this proof depth, each about a theory of its own.

        The answers take turns, and so do the levels of distractors; the first tasks do not depend on ``count``.
        UserError if the names allow fewer.
        """
        if split not in get_args(Split):
            raise UserError(f"split is {split!r}, but it must be one of {', '.join(get_args(Split))}.")
        self._check_depth(depth)
        tasks: dict[str, Task] = {}
        for number in tqdm(range(count), desc=f"{split} theories of depth {depth}", unit="task", delay=2, leave=False):
            rng = random.Random(f"{self.seed} {split} {depth} {number}")
            answer = ANSWERS[number % len(ANSWERS)]
            levels = self._levels(split)
            level = levels[number // len(ANSWERS) % len(levels)]
            for _ in range(FRUITLESS_DRAWS):
                outline = self._make_outline(*self._sort(depth, rng), depth, rng)
                identifier = f"proofwriter-{split}-depth{depth}-seed{self.seed}-{number}"
                key, task = next(self._of_home(split, outline, answer, level, rng, identifier))
                if key not in tasks:
                    tasks[key] = task
                    break
            else:
                raise UserError(
                    f"{count} different {split} theories of depth {depth} were asked for, but with num_names="
                    f"{self.num_names} only {len(tasks)} were found; ask for fewer or give a larger num_names."
                )
        return list(tasks.values())

    def splits(self, *, validation: int, test: int, test_depths: tuple[int, ...] = ()) -> Splits:
        """This source for training, with ``validation`` and ``test`` tasks for each proof depth.

        The test asks for ``test_depths``, by default for the depths of training.
        """
        return Splits(
            train=self,
            validation=[
                task for depth in sorted(set(self.depths)) for task in self.theories("validation", depth, validation)
            ],
            test=[
                task for depth in sorted(set(test_depths or self.depths)) for task in self.theories("test", depth, test)
            ],
            vocabulary=self.vocabulary(),
        )

    def vocabulary(self) -> list[str]:
        """Every word that a task of any split can contain, sorted."""
        return vocabulary(PEOPLE[: self.num_names] + ANIMALS[: self.num_names])

    def _check_depth(self, depth: int) -> None:
        if depth not in DEPTHS:
            raise UserError(f"depths has {depth}, but proof depths must lie between {DEPTHS[0]} and {DEPTHS[-1]}.")
        sizes = [size for kind in self.kinds if (size := smallest_size(kind, depth))]
        if not sizes:
            raise UserError(
                f"depths has {depth} and kinds is {','.join(self.kinds)}, but theories about attributes alone start at "
                "depth 2; add relations to kinds, or leave this depth out."
            )
        if self.sentences < min(sizes):
            raise UserError(f"sentences is {self.sentences}, but depth {depth} needs {min(sizes)} or more.")

    def _check_relevant(self, depth: int) -> None:
        """There are theories such as ``relevant_sizes`` and ``circular`` ask for."""
        if self.circular and depth == 1:
            raise UserError(
                f"circular is {self.circular} and depths has 1, but a search of depth 1 meets nothing again; "
                "leave this depth out, or circular."
            )
        if not self.relevant_sizes:
            return
        for kind in self.kinds:
            for negation in {"with": (True,), "mixed": (True, False), "without": (False,)}[self.negation]:
                sizes = possible_sizes(kind, depth, negation, self.sentences)
                if sizes and not self._sizes(kind, depth, negation):
                    raise UserError(
                        f"relevant_sizes is {','.join(map(str, self.relevant_sizes))}, but for {kind} at depth {depth} "
                        f"in theories of {self.sentences} sentences it must name one of {', '.join(map(str, sizes))}."
                    )

    def _levels(self, split: Split) -> list[int]:
        """Numbers of distractors, where as many as the theory has sentences are all."""
        levels = self.distractors if split == "train" else self.test_distractors or self.distractors
        return [self.sentences if level is None else level for level in read_levels(levels)]

    def _drawn(self, step: int, index: int, depths: Sequence[int], levels: Sequence[int]) -> Task:
        rng = random.Random(f"{self.seed} draw {step} {index}")
        depth = rng.choice(depths)
        kind, negation = self._sort(depth, rng)
        sizes = self._sizes(kind, depth, negation)
        size = rng.choice(sizes) if self.relevant_sizes else 0
        circular = self.circular > 0 and rng.random() < self.circular
        outline = self._training_outline(kind, depth, negation, size, circular, rng)
        identifier = f"proofwriter-train-seed{self.seed}-step{step}-{index}"
        answer, level = rng.choice(ANSWERS), rng.choice(levels)
        answer = "unknown" if circular else answer
        return next(self._of_home("train", outline, answer, level, rng, identifier))[1]

    def _sort(self, depth: int, rng: random.Random) -> tuple[Kind, bool]:
        """Kind and negation of the next theory."""
        kind = rng.choice([kind for kind in self.kinds if smallest_size(kind, depth)])
        return kind, rng.random() < {"with": 1.0, "mixed": 0.5, "without": 0.0}[self.negation]

    def _make_outline(self, kind: Kind, negation: bool, depth: int, rng: random.Random) -> tuple[Outline, Kind, bool]:
        return make_outline(kind, depth, negation, self.sentences, rng), kind, negation

    def _sizes(self, kind: Kind, depth: int, negation: bool) -> list[int]:
        """Those of ``relevant_sizes`` that there are."""
        possible = possible_sizes(kind, depth, negation, self.sentences) if self.relevant_sizes else ()
        return [size for size in self.relevant_sizes if size in possible]

    def _training_outline(
        self, kind: Kind, depth: int, negation: bool, size: int, circular: bool, rng: random.Random
    ) -> tuple[Outline, Kind, bool]:
        """One of ``OUTLINES`` by chance, with ``size`` relevant sentences (0 for any number), circular if so asked."""
        for _ in range(OUTLINES):
            outline = _outline(kind, negation, depth, self.sentences, self.seed, rng.randrange(OUTLINES))
            fits = size in (0, outline.unknown.relevant.bit_count())
            if fits and (not circular or outline.is_circular):
                return outline, kind, negation
        sort = f"{size or 'any number of'} relevant sentences{', circular,' if circular else ''}"
        raise UserError(
            f"No theory about {kind} with {sort} was found at depth {depth}; add relevant_sizes, or lower circular."
        )

    def _of_home(
        self,
        split: Split,
        sort: tuple[Outline, Kind, bool],
        answer: str,
        level: int,
        rng: random.Random,
        identifier: str,
    ) -> Iterator[tuple[str, Task]]:
        """Endless tasks of this split from one outline, with other names each, and with their keys."""
        outline, kind, negation = sort
        first = outline.unknown if answer == "unknown" else outline.proved
        while True:
            places = choose(first.relevant, len(outline.sentences), level, rng)
            naming = self._naming(outline, kind, negation, rng)
            named = {place: naming.sentence(outline.sentences[place]) for place in places}
            key = _key(named.values())
            if home_of(key) == split:
                yield key, self._task(outline, first, answer, places, named, naming, rng, identifier)

    def _naming(self, outline: Outline, kind: Kind, negation: bool, rng: random.Random) -> "Naming":
        pool = (PEOPLE if kind == "attributes" else ANIMALS)[: self.num_names]
        attributes, verbs = outline.predicates
        words = dict(zip(outline.entities, rng.sample(pool, len(outline.entities)), strict=True))
        words |= zip(attributes, rng.sample(ATTRIBUTES, len(attributes)), strict=True)
        words |= zip(verbs, rng.sample(VERBS, len(verbs)), strict=True)
        words |= {"": "", VARIABLE: VARIABLE}
        turned = set()
        if negation:
            # A theory stays what it is if a predicate and its opposite change places in all of it. For those that are
            # asked for the chances are even, so that "not" tells nothing; the others are rather said to hold.
            turned = {
                predicate
                for predicate in (*attributes, *verbs)
                if rng.random() < (0.5 if predicate in outline.pivots else 0.2)
            }
        return Naming(words, turned)

    def _task(
        self,
        outline: Outline,
        first: Asked,
        answer: str,
        places: list[int],
        named: dict[int, Sentence],
        naming: "Naming",
        rng: random.Random,
        identifier: str,
    ) -> Task:
        flipped = answer == "false" or (answer == "unknown" and rng.random() < 0.5)
        asked = [negated(first) if flipped else first]
        generic = rng.choice(tuple(GENERIC))
        texts = {
            place: render(sentence, generic, rng.choice(("if", "all", "plain")))
            if isinstance(sentence, Rule)
            else render_fact(sentence)
            for place, sentence in named.items()
        }
        if self.questions_per_task > 1:
            knowledge = sum(1 << place for place in places)
            asked += outline.further.ask(knowledge, asked[0], self.questions_per_task - 1, rng)
        return told(places, texts.__getitem__, asked, identifier, naming.literal)


@dataclass(frozen=True, slots=True)
class Naming:
    """The names and words of an outline's symbols, and the predicates that change places with their opposites."""

    words: dict[str, str]
    turned: set[str]

    def literal(self, literal: Literal) -> Literal:
        subject, predicate, object_, positive = literal
        words = self.words
        return Literal(words[subject], words[predicate], words[object_], positive != (predicate in self.turned))

    def sentence(self, sentence: Sentence) -> Sentence:
        if isinstance(sentence, Rule):
            return Rule(tuple(map(self.literal, sentence.premises)), self.literal(sentence.conclusion))
        return self.literal(sentence)


@functools.cache
def _outline(kind: Kind, negation: bool, depth: int, size: int, seed: int, index: int) -> Outline:
    return make_outline(kind, depth, negation, size, random.Random(f"{seed} {kind} {negation} {depth} {size} {index}"))


def _key(sentences) -> str:
    """A knowledge set regardless of wording and order."""
    return "\n".join(sorted(_meaning(sentence) for sentence in sentences))


def _meaning(sentence: Sentence) -> str:
    if isinstance(sentence, Rule):
        premises = " ".join(sorted(map(_meaning, sentence.premises)))
        return f"{premises} > {_meaning(sentence.conclusion)}"
    subject, predicate, object_, positive = sentence
    return f"{subject}|{predicate}|{object_}|{positive}"
