"""Trainings in processes that are forked from one which has imported everything, so that each starts at once.

They are told what ``accelerate launch`` tells its own, whose imports take ten times as long as a tiny training.
"""

import multiprocessing
import os
import runpy
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest.mock import patch

import torch.distributed.run
from accelerate.commands.launch import launch_command, launch_command_parser
from launching import ROOT, Ended, config_file, free_port

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["problems.methods", "reckoning_betty.training.run", "reckoning_betty.command_line"])


class Training:
    """``launch/train.py`` in ``number`` processes; what they say goes to ``folder``."""

    def __init__(self, folder: Path, config: str, number: int, *arguments: object):
        told = launched_environment(config) if number > 1 else {}
        told |= {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)} if number > 1 else {}
        self.said = [folder / f"said-{index}" for index in range(number)]
        self.processes: list[ForkServerProcess] = []
        for index, said in enumerate(self.said):
            own = told | ({"RANK": str(index), "LOCAL_RANK": str(index)} if number > 1 else {})
            process = CONTEXT.Process(target=_train, args=(own, said, *map(str, arguments)), daemon=True)
            process.start()
            self.processes.append(process)

    def is_running(self) -> bool:
        return all(process.is_alive() for process in self.processes)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def ended(self, timeout: float = 400) -> Ended:
        """Wait for all of them; when one fails, the others are killed, as launchers do."""
        until = time.monotonic() + timeout
        while any(process.is_alive() for process in self.processes) and not any(p.exitcode for p in self.processes):
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        self.kill()
        said = "".join(file.read_text(errors="replace") for file in self.said)
        return Ended(max(abs(process.exitcode) for process in self.processes), said, said)


def launched_environment(config: str) -> dict[str, str]:
    """What ``accelerate launch`` with a config of ours adds to the environment of two processes."""
    told: dict[str, str] = {}
    command = ["--config_file", config_file(config), "--num_processes", "2", "--main_process_port", free_port()]
    before = dict(os.environ)
    with patch.object(torch.distributed.run, "run", lambda args: told.update(os.environ, MASTER_PORT=args.master_port)):
        launch_command(launch_command_parser().parse_args([*command, str(ROOT / "launch" / "train.py")]))
    return {key: value for key, value in told.items() if before.get(key) != value} | {"MASTER_ADDR": "127.0.0.1"}


def _train(environment: dict[str, str], said: Path, *arguments: str) -> None:
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    sys.argv = [str(ROOT / "launch" / "train.py"), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")
