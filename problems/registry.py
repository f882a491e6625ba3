"""Finds problems by the name that ``--problem`` takes."""

import difflib
import importlib
import pkgutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import problems
from reckoning_betty.config import RunConfig
from reckoning_betty.data.collate import Prompts
from reckoning_betty.data.task import Splits, Task
from reckoning_betty.errors import UserError


class LoadSplits(Protocol):
    """Signature of ``NamedProblem.load_splits``."""

    def __call__(self, options: Any, path: str | None, seed: int) -> Splits: ...


class LoadTestSplits(Protocol):
    """Signature of ``NamedProblem.load_test_splits``."""

    def __call__(self, options: Any, path: str | None, seed: int) -> dict[str, list[Task]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedProblem:
    """What a module of ``problems`` declares as ``PROBLEM`` to be found by its file's name."""

    name: str
    data_config: type
    """Dataclass of its data options, the ``data`` section of the run config."""
    load_splits: LoadSplits
    """Training, validation and test tasks: embedded ones, or those at ``path`` (a folder, a file or a hub name)."""
    load_test_splits: LoadTestSplits
    """Tasks to evaluate on, by split: those generated, or the test part of what ``path`` holds."""
    prompts: Prompts
    default_config: Path
    """The run config that is used without ``--config``."""

    def prompts_of(self, config: RunConfig) -> Prompts:
        """How this run's tasks stand before its model."""
        return replace(self.prompts, backwards=config.inner.backwards)


def problem_names() -> list[str]:
    """Every module of ``problems`` that declares a ``PROBLEM``."""
    return sorted(name for _, name, _ in pkgutil.iter_modules(problems.__path__) if hasattr(_module(name), "PROBLEM"))


def find_problem(name: str) -> NamedProblem:
    """The problem called ``name``.

    Raises:
        UserError: there is none; the message lists the known ones.
    """
    known = problem_names()
    if name in known:
        return _module(name).PROBLEM
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UserError(f"There is no problem '{name}': {hint}--problem takes one of {', '.join(known)}.")


def _module(name: str) -> Any:
    return importlib.import_module(f"problems.{name}")
