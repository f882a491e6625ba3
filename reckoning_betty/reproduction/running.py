"""Units of an experiment trained by a command, several at a time."""

import fcntl
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from reckoning_betty.command_line import DIVERGED
from reckoning_betty.config_io import save_config
from reckoning_betty.errors import UserError
from reckoning_betty.reproduction.units import Unit
from reckoning_betty.training.run_directory import commit, write_json

LOOK_EVERY = 2.0
"""Seconds between looks at what runs."""

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}]"


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains units.

    Args:
        command: that trains, to which options are added.
        folder: where it is called: what a config's ``data_path`` is relative to.
        workers: runs at a time.
    """

    command: Sequence[str]
    folder: Path
    workers: int = 1

    def start(self, unit: Unit) -> subprocess.Popen:
        """Begin or go on.

        Raises:
            UserError: another command trains it.
        """
        folder = unit.root / unit.identity
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            try:  # the lock is the open file's, which the run inherits: it is held until the run ends
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder} is being trained by another command: wait for its end, or stop it."
                ) from None
            if unit.run.config.is_file():
                options = ["--resume"]
            else:
                save_config(unit.config, folder / "given.yaml")
                options = ["--config", str(folder.resolve() / "given.yaml")]
            output = ["--output", str(unit.run.root.resolve())]
            command = [*self.command, "--problem", unit.config.problem, *output, *options]
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)


def run_units(
    units: Sequence[Unit],
    trainer: Trainer,
    title: str,
    on_done: Callable[[], None],
    before: int = 0,
    after: int = 0,
    may_diverge: bool = False,
) -> None:
    """Run what is not done, as many at a time as ``trainer`` has workers, with one progress line for all.

    Args:
        units: what is to be done at the end; equal ones are run once.
        trainer: how.
        title: of the progress line.
        on_done: called when a unit has become done.
        before: runs that the line counts as done besides.
        after: and as still to be done.
        may_diverge: whether a unit whose training diverges is done with that, as a trial is.

    Raises:
        UserError: a run ended with an error, which it says; the others are stopped, and go on from there next time.
        KeyboardInterrupt: Ctrl-C; runs have saved their state.
    """
    distinct = list({unit.identity: unit for unit in units}.values())
    waiting = [unit for unit in distinct if not unit.is_done]
    running: dict[str, tuple[Unit, subprocess.Popen]] = {}
    finished = before + sum(unit.is_done for unit in distinct)
    earlier = before + sum(unit.share_done for unit in distinct)  # took none of this command's time
    total = before + len(distinct) + after
    with tqdm(total=total, initial=earlier, desc=title, unit="run", bar_format=_BAR) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < trainer.workers:
                    unit = waiting.pop(0)
                    running[unit.identity] = unit, trainer.start(unit)
                time.sleep(LOOK_EVERY)
                for identity, (unit, process) in list(running.items()):
                    if process.poll() is not None:
                        del running[identity]
                        _look_at_failed(unit, process, may_diverge)
                        finished += 1
                        on_done()
                bar.n = finished + sum(unit.share_done for unit, _ in running.values())
                bar.initial = min(bar.initial, bar.n)  # a run goes on from its last save, before where it was stopped
                bar.refresh()
        except BaseException:
            _stop([process for _, process in running.values()])
            raise


def _look_at_failed(unit: Unit, process: subprocess.Popen, may_diverge: bool) -> None:
    if not process.returncode:
        return
    log = unit.root / unit.identity / "log.txt"
    said = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    last = said[-1].rpartition("\r")[2] if said else "nothing"
    if process.returncode != DIVERGED or not may_diverge:
        raise UserError(f"A run ended with code {process.returncode} and said: {last} (all of it: {log})")
    write_json(unit.diverged, {"diverged": last.removeprefix("error: "), "commit": commit()})


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        process.send_signal(signal.SIGINT)  # saves its state after the step
    for process in processes:
        process.wait()
