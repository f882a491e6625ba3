"""Kinship reasoning (CLUTRR): facts about a family, and how two of its members are related."""

from dataclasses import dataclass
from pathlib import Path

from problems.registry import NamedProblem
from reckoning_betty.config import require
from reckoning_betty.data.clutrr import ClutrrGenerator, Form, Names, Noise, read_clutrr, read_clutrr_tests
from reckoning_betty.data.collate import Prompts
from reckoning_betty.data.task import Splits, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class ClutrrConfig:
    """The ``data`` section of a CLUTRR run. The first part is for both sources of stories."""

    form: Form = "symbolic"
    """``symbolic``: one fact of one pattern per edge. ``sentences``: the story's own, or template ones."""
    questions_per_task: int = 4
    """Training questions per story: the target, then intermediate conclusions, as far as there are any."""

    hops: tuple[int, ...] = (2, 3, 4)
    """Embedded stories: chain lengths in training and validation; one given twice is drawn twice as often."""
    test_hops: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8, 9, 10)
    """Embedded stories: chain lengths in the test."""
    curriculum_tasks: int = 0
    """Embedded stories: training starts with the shortest and has all lengths after so many tasks; 0 for none."""
    noise: Noise = "none"
    """Embedded stories: distractors."""
    families: int = 1
    """Embedded stories: told together, each of another family; the test asks about one, and K does not tell which."""
    num_names: int = 20
    """Embedded stories: size of the pool of names."""
    unseen_names: bool = False
    """Embedded stories: whether the test has a pool of names of its own."""
    validation_stories: int = 100
    """Embedded stories: per number of hops."""
    test_stories: int = 200
    """Embedded stories: per number of hops."""

    names: Names = "letters"
    """Real data: ``original`` names, ``shuffled`` anew at every draw in training, or ``letters`` as in CLUTRR-SG."""
    validation_fraction: float = 0.05
    """Real data: share of the training stories that validation takes where there is no validation file."""

    def __post_init__(self):
        stories = self.validation_stories
        require(stories >= 1, "data.validation_stories", stories, "the best checkpoint is chosen on at least 1")
        require(self.test_stories >= 0, "data.test_stories", self.test_stories, "it cannot be negative")


def load_splits(options: ClutrrConfig, path: str | None, seed: int) -> Splits:
    """Generated stories, or with ``path`` those of CLUTRR files or of a hub data set.

    Raises:
        UserError: options or rows that cannot be, with the place.
    """
    if path is None:
        return _generator(options, seed).splits(
            validation=options.validation_stories, test=options.test_stories, test_hops=options.test_hops
        )
    return read_clutrr(
        path,
        form=options.form,
        names=options.names,
        questions_per_task=options.questions_per_task,
        validation_fraction=options.validation_fraction,
        seed=seed,
    )


def load_test_splits(options: ClutrrConfig, path: str | None, seed: int) -> dict[str, list[Task]]:
    """Generated validation and test stories, or with ``path`` the test rows of files."""
    if path is None:
        splits = load_splits(options, None, seed)
        return {"validation": splits.validation, "test": splits.test}
    return {"test": read_clutrr_tests(path, form=options.form, names=options.names, seed=seed)}


def _generator(options: ClutrrConfig, seed: int) -> ClutrrGenerator:
    generator = ClutrrGenerator(
        hops=options.hops,
        noise=options.noise,
        families=options.families,
        form=options.form,
        num_names=options.num_names,
        unseen_names=options.unseen_names,
        questions_per_task=options.questions_per_task,
        curriculum_tasks=options.curriculum_tasks,
        seed=seed,
    )
    for hops in sorted(options.test_hops, reverse=True):
        generator.check_hops(hops)  # before any training
    return generator


PROBLEM = NamedProblem(
    name="clutrr",
    data_config=ClutrrConfig,
    load_splits=load_splits,
    load_test_splits=load_test_splits,
    prompts=Prompts(),
    default_config=Path(__file__).resolve().parents[1] / "engine_configs" / "clutrr" / "tiny_all.yaml",
)
