"""ProofWriter data as tasks; what is relevant to a question is found by the prover, in every format."""

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from reckoning_betty.data.held_out import fixed_hash, set_aside
from reckoning_betty.data.proofwriter.files import read_rows
from reckoning_betty.data.proofwriter.knowledge import Asked, Further, ask, choose, read_levels, told
from reckoning_betty.data.proofwriter.logic import Sentence
from reckoning_betty.data.proofwriter.parsing import NotUnderstood, parse, parse_fact
from reckoning_betty.data.proofwriter.prover import Prover
from reckoning_betty.data.proofwriter.rendering import render_fact
from reckoning_betty.data.proofwriter.rows import Entry, read_row
from reckoning_betty.data.proofwriter.words import ANSWERS, WORD
from reckoning_betty.data.sources import Tables
from reckoning_betty.data.task import Splits, StoredTasks, Task
from reckoning_betty.errors import UserError


def read_proofwriter(
    source: str | Path,
    *,
    distractors: str = "none",
    depths: tuple[int, ...] = (),
    min_relevant: int = 2,
    questions_per_task: int = 1,
    validation_fraction: float = 0.05,
    seed: int = 0,
) -> Splits:
    """Training, validation and test tasks from a folder, a JSON file, or a Hugging Face dataset; no theory is in two.

    The names of files tell train, dev (or validation) and test. Without test the dev rows are the test; without
    validation its theories are taken out of training, the hash of a theory decides which. A theory of training or
    validation that a later part has too is left out there.

    distractors: see ``read_levels``; in training they are drawn anew at every visit.
    depths: proof depths that are kept; all if there are none. That of an unknown hypothesis is how far the search went.
    min_relevant: questions with fewer relevant sentences are left out: with 2, the paper's choice, those whose answer
        is stated, and unknown ones that no rule is about.
    questions_per_task: more than 1 adds questions of our own about the same sentences.

    UserError for what cannot be read, for malformed rows (with their place), and if nothing is left to train on.
    """
    levels = _check_options(distractors, depths, min_relevant, questions_per_task)
    if not 0 < validation_fraction < 1:
        raise UserError(f"validation_fraction is {validation_fraction}, but it must lie between 0 and 1, such as 0.05.")
    tables = read_rows(source, unnamed="train")
    if not tables["train"]:
        raise UserError(f"{source} has no training rows; give a folder with a *train* file too, or only evaluate.")
    if not tables["test"]:
        tables["test"], tables["validation"] = tables["validation"], []
    parts = _puzzles(tables, depths, min_relevant)
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    kept = {puzzle.theory for puzzle in test}
    validation = [puzzle for puzzle in validation if puzzle.theory not in kept]
    kept |= {puzzle.theory for puzzle in validation}
    train = [puzzle for puzzle in train if puzzle.theory not in kept]
    if not train:
        raise UserError(
            f"{source} has no training rows of the proof depths and relevant sentences asked for; ask for others."
        )
    if not validation:
        train, validation = _set_aside(train, validation_fraction, seed, source)
    drawing = Drawing(levels, questions_per_task, seed)
    return Splits(
        train=DrawnKnowledge(StoredTasks(tasks=train, seed=seed), drawing),
        validation=drawing.fixed(validation),
        test=drawing.fixed(test),
        vocabulary=_vocabulary([*train, *validation, *test]),
    )


def read_proofwriter_tests(
    source: str | Path,
    *,
    distractors: str = "none",
    depths: tuple[int, ...] = (),
    min_relevant: int = 2,
    questions_per_task: int = 1,
    seed: int = 0,
) -> list[Task]:
    """The tasks to evaluate on: the test rows of the data, else its dev rows, or else all.

    The options are those of ``read_proofwriter``, with the same result.
    """
    levels = _check_options(distractors, depths, min_relevant, questions_per_task)
    tables = read_rows(source, unnamed="test")
    rows = tables["test"] or tables["validation"] or tables["train"]
    puzzles = _puzzles({"test": rows}, depths, min_relevant)["test"]
    return Drawing(levels, questions_per_task, seed).fixed(puzzles)


@dataclass(frozen=True, eq=False)
class Puzzle:
    """A question about a theory, before it is settled which of its sentences are told."""

    sentences: tuple[str, ...]
    prover: Prover
    further: Further
    asked: Asked
    identifier: str

    @functools.cached_property
    def theory(self) -> frozenset[Sentence]:
        """What the sentences say."""
        return frozenset(self.prover.theory)


@dataclass(frozen=True, slots=True)
class Drawing:
    """How puzzles become tasks: levels of distractors, questions a task."""

    levels: tuple[int | None, ...]
    questions_per_task: int
    seed: int

    def fixed(self, puzzles: Sequence[Puzzle]) -> list[Task]:
        """The same tasks always; the levels take turns."""
        return [
            self.task(puzzle, self.levels[number % len(self.levels)], random.Random(f"{self.seed} {puzzle.identifier}"))
            for number, puzzle in enumerate(puzzles)
        ]

    def task(self, puzzle: Puzzle, level: int | None, rng: random.Random) -> Task:
        places = choose(puzzle.asked.relevant, len(puzzle.sentences), level, rng)
        asked = [puzzle.asked]
        if self.questions_per_task > 1:
            knowledge = sum(1 << place for place in places)
            asked += puzzle.further.ask(knowledge, puzzle.asked, self.questions_per_task - 1, rng)
        return told(places, puzzle.sentences.__getitem__, asked, puzzle.identifier)


@dataclass(slots=True)
class DrawnKnowledge:
    """Stored puzzles, visited in epochs; at every visit they get other distractors and another order."""

    order: StoredTasks
    drawing: Drawing

    def draw(self, step: int, count: int) -> list[Task]:
        tasks = []
        for index, puzzle in enumerate(self.order.draw(step, count)):
            rng = random.Random(f"{self.drawing.seed} knowledge {step} {index}")
            tasks.append(self.drawing.task(puzzle, rng.choice(self.drawing.levels), rng))
        return tasks


def _check_options(
    distractors: str, depths: tuple[int, ...], min_relevant: int, questions: int
) -> tuple[int | None, ...]:
    if questions < 1:
        raise UserError(f"questions_per_task is {questions}, but it must be 1 or more.")
    if min_relevant < 1:
        raise UserError(f"min_relevant is {min_relevant}, but it must be 1 or more: a task needs a sentence to tell.")
    if any(depth < 0 for depth in depths):
        raise UserError(f"depths has {min(depths)}, but proof depths are 0 or more.")
    return read_levels(distractors)


def _puzzles(tables: Tables, depths: tuple[int, ...], min_relevant: int) -> dict[str, list[Puzzle]]:
    found: dict[str, list[Puzzle]] = {split: [] for split in tables}
    with tqdm(total=sum(map(len, tables.values())), desc="prove", unit="row", delay=2) as bar:
        for split, rows in tables.items():
            for row in rows:
                puzzles = map(_puzzle, read_row(row))
                found[split] += [p for p in puzzles if _is_wanted(p.asked, depths, min_relevant)]
                bar.update()
    return found


def _is_wanted(asked: Asked, depths: tuple[int, ...], min_relevant: int) -> bool:
    return asked.relevant.bit_count() >= min_relevant and (not depths or asked.hops in depths)


def _puzzle(entry: Entry) -> Puzzle:
    try:
        hypothesis = parse_fact(entry.hypothesis)
        sentences, prover, further = _read_theory(entry.sentences)
    except NotUnderstood as error:
        raise UserError(
            f"{entry.where}: {str(error)!r} is none of ProofWriter's sentences, such as 'Bob is not cold.', 'The cat "
            "chases the dog.', 'If something is red then it is kind.' or 'All red people are kind.'"
        ) from error
    asked = ask(prover, hypothesis)
    if asked.answer != entry.answer:
        raise UserError(
            f"{entry.where}: the file answers {entry.answer} to {entry.hypothesis!r}, but in an open world its "
            f"sentences make that {asked.answer}; give open-world files (OWA), closed-world ones (CWA) are not read."
        )
    return Puzzle(sentences, prover, further, asked, entry.identifier)


@functools.lru_cache(maxsize=256)
def _read_theory(sentences: tuple[str, ...]) -> tuple[tuple[str, ...], Prover, Further]:
    """The sentences as they are told, and what follows from them; the rows of one theory mostly stand together."""
    theory = tuple(map(parse, sentences))
    return tuple(_apart(sentence) for sentence in sentences), Prover(theory), Further(theory)


def _apart(sentence: str) -> str:
    """With spaces before punctuation, as generated sentences are."""
    return " ".join(WORD.findall(sentence))


def _set_aside(
    puzzles: list[Puzzle], fraction: float, seed: int, source: str | Path
) -> tuple[list[Puzzle], list[Puzzle]]:
    """Split into training and validation by the hashes of the theories, at least one theory to each side."""
    theories = {puzzle.theory for puzzle in puzzles}
    hashes = {theory: fixed_hash(str(seed), *sorted(map(str, theory))) for theory in theories}
    aside = set_aside(hashes.values(), {"validation": fraction}, source, "theories")["validation"]
    validation = [puzzle for puzzle in puzzles if hashes[puzzle.theory] in aside]
    return [puzzle for puzzle in puzzles if hashes[puzzle.theory] not in aside], validation


def _vocabulary(puzzles: Sequence[Puzzle]) -> list[str]:
    """The words of all sentences and of whatever may be asked about them, and the answers."""
    found = {*ANSWERS, "because"}
    for puzzle in puzzles:
        hypotheses = [puzzle.asked.hypothesis]
        for literal in (*puzzle.prover.known, *hypotheses):
            for asked in (literal, literal.negation):
                found.update(WORD.findall(render_fact(asked)))
    for sentence in {sentence for puzzle in puzzles for sentence in puzzle.sentences}:
        found.update(sentence.split())
    return sorted(found)
