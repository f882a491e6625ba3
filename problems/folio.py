"""First-order logic in natural language (FOLIO): whether a conclusion follows from premises."""

from dataclasses import dataclass, replace
from pathlib import Path

from problems.registry import NamedProblem
from reckoning_betty.data.collate import Prompts
from reckoning_betty.data.folio import FORMAT, read_folio, read_folio_tests
from reckoning_betty.data.task import Splits, Task
from reckoning_betty.models.word_tokenizer import words

QUESTION = "Based on the facts, can we conclude: {question}"
"""The authors' question, which names each fact and here cannot ("Based on fact_0 fact_1 ..."; ``paper.md`` 3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FolioConfig:
    """The ``data`` section of a FOLIO run."""

    validation_fraction: float = 0.1
    """Share of the training rows' premise sets that validation takes."""
    test_fraction: float = 0.1
    """Share of them that the test takes where there are no validation rows, which else are the test."""


def load_splits(options: FolioConfig, path: str | None, seed: int) -> Splits:
    """Tasks of FOLIO files or of a hub data set.

    Raises:
        UserError: no path, options or rows that cannot be, with the place.
    """
    splits = read_folio(
        FORMAT.required(path, "folio"),
        validation_fraction=options.validation_fraction,
        test_fraction=options.test_fraction,
        seed=seed,
    )
    return replace(splits, vocabulary=sorted({*splits.vocabulary, *words(QUESTION.format(question=""))}))


def load_test_splits(options: FolioConfig, path: str | None, seed: int) -> dict[str, list[Task]]:
    """The test part of what ``path`` holds."""
    fractions = {"validation_fraction": options.validation_fraction, "test_fraction": options.test_fraction}
    return {"test": read_folio_tests(FORMAT.required(path, "folio"), **fractions)}


PROBLEM = NamedProblem(
    name="folio",
    data_config=FolioConfig,
    load_splits=load_splits,
    load_test_splits=load_test_splits,
    prompts=Prompts(question=QUESTION, in_context="{facts}\n" + QUESTION),
    default_config=Path(__file__).resolve().parents[1] / "engine_configs" / "folio" / "small.yaml",
)
