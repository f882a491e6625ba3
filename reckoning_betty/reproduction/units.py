"""An experiment in units of work: training runs in folders named after their configs, so that equal ones are shared.

A unit that is done is never run again; one that was stopped goes on from its last save. Results files keep what is told
of every unit, so that an experiment can go on where its runs' folders are gone, as on another machine.
"""

import fcntl
import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from tqdm import tqdm

from reckoning_betty.config import TRAINING_SECTIONS, RunConfig
from reckoning_betty.config_io import save_config
from reckoning_betty.errors import UserError
from reckoning_betty.training.metrics import read_metrics
from reckoning_betty.training.run_directory import RunDirectory, read_json

LOOK_EVERY = 2.0
"""Seconds between looks at what runs."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One training run.

    Args:
        config: its run config, resolved.
        root: the folder of all units.
        known: outcomes by identity that were found before.
    """

    config: RunConfig
    root: Path
    known: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Equal for equal configs.

        What has its default is left out, so that new options leave old runs their names, and so are the sections that
        no method of the run is trained by: an arm's budget is no part of another arm's name.
        """
        config, kinds = self.config, (self.config.problem, self.config.hypergradient)
        used = {config.section(method) for method in config.methods}
        default = RunConfig(
            problem=config.problem,
            data=type(config.data)(),
            hypergradient=config.hypergradient,
            hypergradient_options=type(config.hypergradient_options)(),
        )
        changed = _changed(asdict(config), asdict(default))
        named = {key: value for key, value in changed.items() if key in used or key not in TRAINING_SECTIONS}
        text = json.dumps([*kinds, named], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.root / self.identity / "run")

    @property
    def is_done(self) -> bool:
        return self.identity in self.known or self.run.summary.is_file()

    @property
    def share_done(self) -> float:
        """Of its outer steps, in [0, 1]."""
        if self.is_done:
            return 1.0
        entries = read_metrics(self.run.metrics) if self.run.metrics.is_file() else []
        return max((entry["step"] for entry in entries), default=0) / self.config.training(self.config.method).steps

    def outcome(self) -> dict[str, Any]:
        """What results keep of the unit, which must be done: its tables on test, and what it took.

        ``validation`` is label accuracy there, and ``validation_recall`` the share of questions whose relevant facts
        are recalled exactly, where they are asked for: means over hops, in [0, 1].
        """
        if self.identity in self.known:
            return dict(self.known[self.identity])
        summary = read_json(self.run.summary)
        method = summary["method"]
        accuracy, told = summary["label_accuracy"][method], summary["methods"][method]
        recall = told.get("knowledge_recall", {})
        recalled = [row["exact"] for row in recall.get("validation", {}).values()]
        return {
            "label_accuracy": accuracy["test"],
            "label_accuracy_by_answer": told["label_accuracy_by_answer"]["test"],
            "knowledge_recall": recall.get("test", {}),
            "validation": fmean(accuracy["validation"].values()),
            **({"validation_recall": fmean(recalled)} if recalled else {}),
            "steps": told["steps"],
            "best_step": told["best_step"],
            "tasks": told["steps"] * self.config.training(method).tasks_per_step,
            "training_seconds": told["training_seconds"],
            "peak_memory_mib": max(told["peak_memory_mib"]),
            "commit": summary["commit"],
            "run": self.identity,
        }


def run_units(
    units: Sequence[Unit], train: Sequence[str], workers: int, title: str, on_done: Callable[[], None]
) -> None:
    """Run what is not done, ``workers`` at a time, with one progress line for all.

    Args:
        units: what is to be done at the end; equal ones are run once.
        train: the command that trains, to which options are added.
        workers: runs at a time.
        title: of the progress line.
        on_done: called when a unit has become done.

    Raises:
        UserError: a run ended with an error, which it says; the others are stopped, and go on from there next time.
        KeyboardInterrupt: Ctrl-C; runs have saved their state.
    """
    distinct = list({unit.identity: unit for unit in units}.values())
    waiting = [unit for unit in distinct if not unit.is_done]
    running: dict[str, tuple[Unit, subprocess.Popen]] = {}
    finished = sum(unit.is_done for unit in distinct)
    before = sum(unit.share_done for unit in distinct)  # what earlier commands did took none of this one's time
    with tqdm(total=len(distinct), initial=before, desc=title, unit="run", bar_format=_BAR) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    unit = waiting.pop(0)
                    running[unit.identity] = unit, _start(unit, train)
                time.sleep(LOOK_EVERY)
                for identity, (unit, process) in list(running.items()):
                    if process.poll() is not None:
                        del running[identity]
                        _refuse_failed(unit, process)
                        finished += 1
                        on_done()
                bar.n = finished + sum(unit.share_done for unit, _ in running.values())
                bar.initial = min(bar.initial, bar.n)  # a run goes on from its last save, before where it was stopped
                bar.refresh()
        except BaseException:
            _stop([process for _, process in running.values()])
            raise


_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}]"


def _start(unit: Unit, train: Sequence[str]) -> subprocess.Popen:
    folder = unit.root / unit.identity
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        try:
            fcntl.flock(
                log, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # of the open file, which the run inherits: held until it ends
        except BlockingIOError:
            raise UserError(f"{folder} is being trained by another command: wait for its end, or stop it.") from None
        if unit.run.config.is_file():
            options = ["--resume"]
        else:
            save_config(unit.config, folder / "given.yaml")
            options = ["--config", str(folder / "given.yaml")]
        command = [*train, "--problem", unit.config.problem, "--output", str(unit.run.root), *options]
        return subprocess.Popen(command, stdout=log, stderr=log)


def _refuse_failed(unit: Unit, process: subprocess.Popen) -> None:
    if process.returncode:
        log = unit.root / unit.identity / "log.txt"
        said = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
        last = said[-1].rpartition("\r")[2] if said else "nothing"
        raise UserError(f"A run ended with code {process.returncode} and said: {last} (all of it: {log})")


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        process.send_signal(signal.SIGINT)  # saves its state after the step
    for process in processes:
        process.wait()


def _changed(given: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """The entries of ``given`` that ``default`` has not, or has otherwise."""
    found = {}
    for key, value in given.items():
        known = default.get(key)
        if value != known:
            both = isinstance(value, dict) and isinstance(known, dict)
            found[key] = _changed(value, known) if both else value
    return found


Resolve = Callable[[dict[str, Any]], RunConfig]
"""From the values of a run config to the config, with the problem's own data options."""
