"""Which of random letters is the most frequent: the data on which the paper measures run time (section 4.4)."""

from dataclasses import dataclass
from pathlib import Path

from problems.registry import NamedProblem
from reckoning_betty.data.collate import Prompts
from reckoning_betty.data.letters import LetterGenerator
from reckoning_betty.data.task import Splits, Task
from reckoning_betty.errors import UserError, require


@dataclass(frozen=True, kw_only=True, slots=True)
class LettersConfig:
    """The ``data`` section of a run on letters. The defaults are the paper's: 1,024 tokens with question and answer."""

    facts: int = 8
    """Facts per task."""
    letters_per_fact: int = 127
    """Letters, which are tokens of the word-level tokenizer, per fact."""
    questions_per_task: int = 1
    """The paper's question, then comparisons of two letters ("Is a more frequent than k ?"); 26 at most."""
    validation_tasks: int = 100
    test_tasks: int = 200

    def __post_init__(self):
        tasks = self.validation_tasks
        require(tasks >= 1, "data.validation_tasks", tasks, "the best checkpoint is chosen on at least 1")
        require(self.test_tasks >= 0, "data.test_tasks", self.test_tasks, "it cannot be negative")


def load_splits(options: LettersConfig, path: str | None, seed: int) -> Splits:
    """Generated letters.

    Raises:
        UserError: a path, which nothing can be read from, or options that cannot be.
    """
    if path is not None:
        raise UserError(f"letters are generated, so --data {path} cannot be read: leave out --data.")
    generator = LetterGenerator(
        facts=options.facts,
        letters_per_fact=options.letters_per_fact,
        questions_per_task=options.questions_per_task,
        seed=seed,
    )
    return generator.splits(validation=options.validation_tasks, test=options.test_tasks)


def load_test_splits(options: LettersConfig, path: str | None, seed: int) -> dict[str, list[Task]]:
    """The validation and test tasks of ``load_splits``."""
    splits = load_splits(options, path, seed)
    return {"validation": splits.validation, "test": splits.test}


PROBLEM = NamedProblem(
    name="letters",
    data_config=LettersConfig,
    load_splits=load_splits,
    load_test_splits=load_test_splits,
    prompts=Prompts(),
    default_config=Path(__file__).resolve().parents[1] / "engine_configs" / "letters" / "small.yaml",
)
