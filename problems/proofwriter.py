"""Deductive reasoning in an open world (ProofWriter): is a hypothesis true, false or unknown by facts and rules."""

from dataclasses import dataclass, replace
from pathlib import Path

from problems.registry import NamedProblem
from reckoning_betty.config import require
from reckoning_betty.data.collate import Prompts
from reckoning_betty.data.proofwriter import (
    Negation,
    ProofWriterGenerator,
    read_proofwriter,
    read_proofwriter_tests,
)
from reckoning_betty.data.task import Splits, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class ProofWriterConfig:
    """The ``data`` section of a ProofWriter run. The first part is for both sources of theories."""

    distractors: str = "none"
    """Sentences of the theory that K holds besides the relevant ones: ``none``, a number, ``all``, or several of these
    with commas (``none,2,all``; one given twice counts twice), of which training draws one a task and validation and
    test take turns."""
    questions_per_task: int = 4
    """Training questions per K: the first, then others that K settles, as far as there are any."""

    depths: tuple[int, ...] = (1, 2)
    """Embedded theories: proof depths in training and validation; ``[1, 2, 3]`` is the paper's 3-hop set. One given
    twice is drawn twice as often."""
    test_depths: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Embedded theories: proof depths in the test."""
    relevant_sizes: tuple[int, ...] = ()
    """Embedded theories: numbers of relevant sentences in training, each of them equally likely; empty for what comes
    by chance, few sentences more often than many."""
    circular: float = 0.0
    """Embedded theories: share of the training tasks that ask for something unknown whose search comes back to it, on
    top of those that come by chance. Their rules are mixed up most when they are recalled."""
    curriculum_tasks: int = 0
    """Embedded theories: training starts with the shortest proofs and the fewest distractors, and has all of both after
    so many tasks; 0 for none."""
    test_distractors: str = ""
    """Embedded theories: ``distractors`` of validation and test; empty for the same."""
    kinds: tuple[str, ...] = ("attributes", "relations")
    """Embedded theories: about attributes of people alone, about attributes and relations of animals."""
    negation: Negation = "with"
    """Embedded theories: ``with`` sentences that say what is not so, ``without``, or ``mixed``. Without, "not" in a
    question gives a part of the answer away, as it does in the published data."""
    sentences: int = 16
    """Embedded theories: facts and rules of each; ``distractors=all`` tells them all."""
    num_names: int = 8
    """Embedded theories: size of the pools of people and of animals."""
    validation_theories: int = 99
    """Embedded theories: per proof depth."""
    test_theories: int = 198
    """Embedded theories: per proof depth."""

    real_depths: tuple[int, ...] = ()
    """Real data: proof depths that are kept; empty for all."""
    min_relevant: int = 2
    """Real data: questions with fewer relevant sentences are left out; 2 leaves out what is stated, as in the paper."""
    validation_fraction: float = 0.05
    """Real data: share of the training theories that validation takes where there is no file for it."""

    def __post_init__(self):
        theories = self.validation_theories
        require(theories >= 1, "data.validation_theories", theories, "the best checkpoint is chosen on at least 1")
        require(self.test_theories >= 0, "data.test_theories", self.test_theories, "it cannot be negative")


def load_splits(options: ProofWriterConfig, path: str | None, seed: int) -> Splits:
    """Generated theories, or with ``path`` those of files or of a hub data set.

    Raises:
        UserError: options or rows that cannot be, with the place.
    """
    if path is None:
        return _generator(options, seed).splits(
            validation=options.validation_theories, test=options.test_theories, test_depths=options.test_depths
        )
    return read_proofwriter(
        path,
        distractors=options.distractors,
        depths=options.real_depths,
        min_relevant=options.min_relevant,
        questions_per_task=options.questions_per_task,
        validation_fraction=options.validation_fraction,
        seed=seed,
    )


def load_test_splits(options: ProofWriterConfig, path: str | None, seed: int) -> dict[str, list[Task]]:
    """Generated validation and test theories, or with ``path`` the test rows of files."""
    if path is None:
        splits = load_splits(options, None, seed)
        return {"validation": splits.validation, "test": splits.test}
    return {
        "test": read_proofwriter_tests(
            path,
            distractors=options.distractors,
            depths=options.real_depths,
            min_relevant=options.min_relevant,
            questions_per_task=options.questions_per_task,
            seed=seed,
        )
    }


def _generator(options: ProofWriterConfig, seed: int) -> ProofWriterGenerator:
    generator = ProofWriterGenerator(
        depths=options.depths,
        distractors=options.distractors,
        test_distractors=options.test_distractors,
        kinds=options.kinds,
        negation=options.negation,
        sentences=options.sentences,
        num_names=options.num_names,
        questions_per_task=options.questions_per_task,
        relevant_sizes=options.relevant_sizes,
        circular=options.circular,
        curriculum_tasks=options.curriculum_tasks,
        seed=seed,
    )
    for depth in options.test_depths:
        # refuses what cannot be before any training
        replace(generator, depths=(depth,), relevant_sizes=(), circular=0.0)
    return generator


PROBLEM = NamedProblem(
    name="proofwriter",
    data_config=ProofWriterConfig,
    load_splits=load_splits,
    load_test_splits=load_test_splits,
    prompts=Prompts(),
    default_config=Path(__file__).resolve().parents[1] / "engine_configs" / "proofwriter" / "small.yaml",
)
