"""The files of a run: where they are, what a finished method left, and the summary."""

import json
import os
import resource
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reckoning_betty import __version__
from reckoning_betty.checkpoint import replace_file
from reckoning_betty.errors import UserError

PACKAGES = ("torch", "betty-ml", "transformers", "accelerate")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths below one run's folder."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def plots(self) -> Path:
        return self.root / "plots"

    def answers(self, method: str) -> Path:
        """Every answer to the test's questions, one JSON object a line."""
        return self.root / "answers" / f"{method}.jsonl"

    def checkpoint(self, method: str, main_method: str) -> Path:
        """The main method's checkpoint is ``checkpoint/``; those of the baselines stand below ``baselines/``."""
        return self.root / "checkpoint" if method == main_method else self.root / "baselines" / method

    def state(self, method: str) -> Path:
        """Where a run goes on from."""
        return self.root / "resume" / f"{method}.pt"

    def result(self, method: str) -> Path:
        """What a finished method reports."""
        return self.root / "resume" / f"{method}.json"


def open_run(output: str | None, problem: str, resume: bool) -> RunDirectory:
    """The run's folder: a new one, or with ``resume`` one that is there.

    Without ``output``, runs are numbered below ``runs/``, and the latest of the problem is resumed.

    Raises:
        UserError: the folder holds a run and ``resume`` was not asked for, or the other way round.
    """
    numbered = sorted(Path("runs").glob(f"{problem}-[0-9][0-9][0-9]"))
    if output is not None:
        run = RunDirectory(Path(output))
    elif resume:
        if not numbered:
            raise UserError(f"--resume: there is no run of {problem} below runs/; name its folder with --output.")
        run = RunDirectory(numbered[-1])
    else:
        number = int(numbered[-1].name[-3:]) + 1 if numbered else 1
        run = RunDirectory(Path("runs") / f"{problem}-{number:03d}")
    if run.root.exists() and not run.root.is_dir():
        raise UserError(f"--output {run.root} is a file; name a folder.")
    if resume and not run.config.is_file():
        raise UserError(f"--resume: {run.root} holds no run to go on with; leave --resume out to start one there.")
    if not resume and any(not path.is_dir() for path in run.root.rglob("*")):
        raise UserError(f"{run.root} is not empty: add --resume to go on with the run in it, or name another --output.")
    try:
        (run.root / "resume").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output {run.root} cannot be made ({error.strerror}); name a folder you may write to."
        ) from None
    return run


def refuse_unwritable(file: Path) -> None:
    """Make the folder of ``--output``, and refuse before a long command what could not be written after it.

    Raises:
        UserError: a folder, or a file where there is no writing.
    """
    if file.is_dir():
        raise UserError(f"--output {file} is a folder; name a JSON file.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output {file} cannot be made ({error.strerror}); name a file in a folder you may write to."
        ) from None
    if not os.access(file.parent, os.W_OK):
        raise UserError(f"--output {file} cannot be made; name a file in a folder you may write to.")


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Atomically, readable by people."""
    replace_file(file, lambda new: new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8"))


def read_json(file: Path) -> dict[str, Any]:
    """What ``write_json`` wrote.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): delete it to make it anew with --resume.") from None


def versions() -> dict[str, str]:
    """Versions of the packages that decide about numbers."""
    return {"reckoning_betty": __version__} | {package: version(package) for package in PACKAGES}


def commit() -> str | None:
    """The commit of the checkout that the code runs from, with '-dirty' if it was changed; None outside of git.

    Committed results alone do not count as a change: experiments rewrite them while they run.
    """
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        described = git("describe", "--always", "--abbrev=12")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top,glob)**/results/**")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{described}-dirty" if changed else described


def peak_memory_mib() -> float:
    """The process's largest resident size so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
