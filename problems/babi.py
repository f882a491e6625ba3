"""Reading comprehension (bAbI): where people and things of a short story are, and what follows from it."""

from dataclasses import dataclass
from pathlib import Path

from problems.registry import NamedProblem
from reckoning_betty.data.babi import FORMAT, read_babi, read_babi_tests
from reckoning_betty.data.collate import Prompts
from reckoning_betty.data.task import Splits, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class BabiConfig:
    """The ``data`` section of a bAbI run."""

    tasks: tuple[int, ...] = ()
    """Numbers of bAbI's tasks, for example [1, 2, 3], out of a folder or a hub data set; empty for all there are."""
    questions_per_task: int = 1
    """Training questions per set of facts at most, which the story asks one after another (qa15 has 4, most 1)."""
    validation_fraction: float = 0.1
    """Share of the training stories that validation takes where there is no validation file."""


def load_splits(options: BabiConfig, path: str | None, seed: int) -> Splits:
    """Tasks of bAbI files or of a hub data set.

    Raises:
        UserError: no path, options or lines that cannot be, with the place.
    """
    return read_babi(
        FORMAT.required(path, "babi"),
        tasks=options.tasks,
        questions_per_task=options.questions_per_task,
        validation_fraction=options.validation_fraction,
        seed=seed,
    )


def load_test_splits(options: BabiConfig, path: str | None, seed: int) -> dict[str, list[Task]]:
    """The test part of what ``path`` holds."""
    return {"test": read_babi_tests(FORMAT.required(path, "babi"), tasks=options.tasks)}


PROBLEM = NamedProblem(
    name="babi",
    data_config=BabiConfig,
    load_splits=load_splits,
    load_test_splits=load_test_splits,
    prompts=Prompts(),
    default_config=Path(__file__).resolve().parents[1] / "engine_configs" / "babi" / "small.yaml",
)
