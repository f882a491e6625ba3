"""One measurement of a cell: launched as a training is, read from what each process wrote down."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from reckoning_betty.config import RunConfig
from reckoning_betty.config_io import save_config
from reckoning_betty.errors import NotMeasured
from reckoning_betty.scaling.cells import Cell
from reckoning_betty.training.run_directory import read_json

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "SIGKILL", "Signal 9")
REASON = re.compile(r"^(?:\[rank\d+\]: )?((?:error: |[\w.]*(?:Error|Exception): ).*)$", re.MULTILINE)

Run = dict[str, Any]
"""``device``, ``seconds`` of each outer step, ``peak_memory_mib`` and ``memory_above_start_mib`` of each process, and
``share_of_others``: how much of the machine's CPUs other programs took meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Starts the processes of a cell.

    Args:
        script: that each process runs, as ``script --folder FOLDER --problem NAME --steps STEPS``; in FOLDER is the
            run config.
        launchers: the folder of Accelerate's configs.
        config: of the run; a cell sets its ``threads`` and ``shard_weights``.
        steps: outer steps to be timed.
    """

    script: Path
    launchers: Path
    config: RunConfig
    steps: int

    def measure(self, cell: Cell) -> Run:
        """One run of a cell.

        Raises:
            NotMeasured: it could not be measured.
        """
        how = cell.how
        if not how.is_installed:
            raise NotMeasured("not installed", f"type: pip install '.[{how.package}]'")
        config = replace(
            self.config, shard_weights=how.shard_weights, threads=self.config.threads or cell.threads, baselines=[]
        )
        with tempfile.TemporaryDirectory() as folder:
            save_config(config, Path(folder) / "config.yaml")
            start, busy, own = time.perf_counter(), _busy_seconds(), _own_seconds()
            ended = subprocess.run(self._command(cell, folder), capture_output=True, text=True, check=False)
            possible = (time.perf_counter() - start) * psutil.cpu_count()
            others = (_busy_seconds() - busy - (_own_seconds() - own)) / possible
            if ended.returncode != 0:
                raise error_of(ended.stderr)
            files = [Path(folder) / f"{index}.json" for index in range(cell.processes)]
            return merged([read_json(file) for file in files]) | {"share_of_others": max(0.0, others)}

    def _command(self, cell: Cell, folder: str) -> list[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        launch = ["accelerate.commands.launch", "--quiet", "--config_file", self.launchers / cell.how.launcher]
        processes = ["--num_processes", cell.processes, "--main_process_port", port]
        own = [self.script, "--folder", folder, "--problem", self.config.problem, "--steps", self.steps]
        return list(map(str, [sys.executable, "-m", *launch, *processes, *own]))


def merged(processes: Sequence[dict[str, Any]]) -> Run:
    """What the processes of one run wrote, together: a step lasts as long as for the slowest of them."""
    return {
        "device": processes[0]["device"],
        "seconds": [max(times) for times in zip(*(process["seconds"] for process in processes), strict=True)],
        "peak_memory_mib": [process["peak_memory_mib"] for process in processes],
        "memory_above_start_mib": [process["memory_above_start_mib"] for process in processes],
    }


def error_of(said: str) -> NotMeasured:
    """Why a launch failed, from what its processes said on stderr."""
    if any(part in said for part in OUT_OF_MEMORY):
        return NotMeasured("does not fit", "needs more memory than there is.")
    reasons = REASON.findall(said) or said.split("\n")[-2:] or [""]
    return NotMeasured("failed", " ".join(reasons[0].removeprefix("error: ").split())[:300])


def _busy_seconds() -> float:
    """What all CPUs of the machine have worked."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)


def _own_seconds() -> float:
    """What this process and those it has waited for have worked."""
    return sum(os.times()[:4])
