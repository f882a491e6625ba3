"""How tests call the launch scripts, in this process or in one of their own, and the small inputs that they share."""

import contextlib
import csv
import io
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

ROOT = Path(__file__).resolve().parents[2]
CORES = sorted(os.sched_getaffinity(0))
BAR = re.compile(r"\d+%\|.*\||\d+(step|task) \[")

CHOSEN = "reckoning: fast weights: "
"""Before the form of fast weights that a run takes, and why."""

METHODS = ("reckoning", "in_context", "no_facts")
TINY = [
    *("model.width=16", "model.layers=1", "model.heads=2", "model.context=64", "inner.steps=2", "save_every=4"),
    *("data.hops=[2,3]", "data.test_hops=[2,3,4]", "data.validation_stories=6", "data.test_stories=5"),
    *(f"{method}.{option}" for method in METHODS for option in ("steps=10", "tasks_per_step=4", "warmup_steps=2")),
    *(f"{method}.validate_every=5" for method in METHODS),
]
"""Overrides of the default config: every method in seconds, nothing learned."""

STARTED: list[subprocess.Popen] = []
"""What ``start`` started."""

COLUMNS = ("story", "query", "target", "story_edges", "edge_types", "genders", "task_split")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a script ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """The lines on stderr that are no progress: neither bars nor what was chosen for the user."""
        lines = re.split(r"[\r\n]+", self.err)
        return [line for line in lines if line.strip() and not BAR.search(line) and CHOSEN not in line]


def last_of_each(*overrides: str) -> list[str]:
    """Overrides of which those that come later win; the program itself refuses a key that is given twice."""
    return list({override.partition("=")[0]: override for override in overrides}.values())


def call(script: str, *arguments: object) -> Ended:
    """Run ``launch/<script>.py`` in this process, as ``python launch/<script>.py arguments`` would."""
    out, err, code, argv = io.StringIO(), io.StringIO(), 0, sys.argv
    handler = signal.getsignal(signal.SIGINT)
    sys.argv = [str(ROOT / "launch" / f"{script}.py"), *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        err.write(ended.code if isinstance(ended.code, str) else "")
    finally:
        sys.argv = argv
        torch.set_flush_denormal(False)  # a script sets it for its process, and here other tests follow
        assert signal.getsignal(signal.SIGINT) is handler
    return Ended(code, out.getvalue(), err.getvalue())


def start(script: str, *arguments: object, **options) -> subprocess.Popen:
    """Start ``launch/<script>.py`` in a process of its own."""
    return start_command([sys.executable, str(ROOT / "launch" / f"{script}.py"), *map(str, arguments)], **options)


def launch(*arguments: object, config: str, options: tuple[str, ...] = (), **started) -> subprocess.Popen:
    """Start ``accelerate launch launch/train.py`` with a config of ours."""
    command = ["accelerate", "launch", "--quiet", "--config_file", config_file(config)]
    command += ["--main_process_port", free_port(), *options, str(ROOT / "launch" / "train.py")]
    return start_command([*command, *map(str, arguments)], preexec_fn=None, **started)


def config_file(name: str) -> str:
    """A launcher config of ours."""
    return str(ROOT / "engine_configs" / "accelerate" / f"{name}.yaml")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start_command(command: list[str], **options) -> subprocess.Popen:
    """Start a command on one core, its outputs piped, with the tools of this Python first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    standard = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": _pin_to_one_core}
    STARTED.append(subprocess.Popen(command, env=os.environ | {"PATH": path}, **standard | options))
    return STARTED[-1]


def _pin_to_one_core() -> None:
    os.sched_setaffinity(0, {CORES[os.getpid() % len(CORES)]})


def end_all() -> None:
    """Kill what still runs of what was started, a launcher's processes too, and close its pipes."""
    while STARTED:
        with STARTED.pop() as process:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()


def ended(process: subprocess.Popen, timeout: float = 400) -> Ended:
    """Wait for what ``start`` started."""
    out, err = process.communicate(timeout=timeout)
    return Ended(process.returncode, out, err)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its bytes: what a refused command must leave as it was."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def clutrr_rows(number: int, split: str = "test") -> list[dict[str, str]]:
    """Rows of two and three hops in turn: Tom's sister Ann, her mother Eva, and Eva's daughter Lea."""
    rows = []
    for n in range(number):
        tom, ann, eva, lea = (f"{name}{n}" for name in ("Tom", "Ann", "Eva", "Lea"))
        hops = 2 + n % 2
        people = [f"{tom}:male", f"{ann}:female", f"{eva}:female", f"{lea}:female"][: hops + 1]
        told = [f"[{tom}] and his sister [{ann}] ran.", f"[{eva}] called her daughter [{ann}]."]
        rows.append(
            {
                "story": " ".join([*told, f"[{lea}]'s mom, [{eva}], smiled."][:hops]),
                "query": str((tom, [eva, lea][n % 2])),
                "target": ["mother", "sister"][n % 2],
                "story_edges": str([(0, 1), (1, 2), (2, 3)][:hops]),
                "edge_types": str(["sister", "mother", "daughter"][:hops]),
                "genders": ",".join(people),
                "task_split": split,
            }
        )
    return rows


def write_csv(file: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> Path:
    """``rows`` as a file of CLUTRR's format."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return file


def printed(out: str) -> dict[str, dict[str, str]]:
    """The table on stdout: {method or split: {hops: percent}}."""
    lines = out.splitlines()
    rule = next(number for number, line in enumerate(lines) if line and not line.strip("-"))
    hops = lines[rule - 1].split()[1:]
    rows = (line.split() for line in lines[rule + 1 :])
    return {row[0]: dict(zip(hops, row[1:], strict=True)) for row in rows if len(row) == len(hops) + 1}
