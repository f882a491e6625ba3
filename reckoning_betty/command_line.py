"""What the scripts in ``launch/`` share: how they end when something is wrong."""

import logging
import os
import sys
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable

import torch
import transformers

from reckoning_betty.errors import UserError
from reckoning_betty.guards import NonFiniteError
from reckoning_betty.training.engine import Interrupted

BAD_INPUT, DIVERGED, INTERRUPTED = 2, 3, 130
"""Exit codes; 130 is what shells give for Ctrl-C."""

SECONDS_ALONE = 10.0
"""After which an error is one of this process alone: launchers stop the others in a second, or a few when busy."""


class OneSentenceParser(ArgumentParser):
    """An argument parser whose errors are one sentence, as all others are."""

    def error(self, message: str) -> None:
        _end(f"error: {message}; {self.prog} --help lists the options.", BAD_INPUT)


def names(text: str) -> list[str]:
    """``a,b`` as an option's value."""
    return [name for name in text.split(",") if name]


def numbers(text: str) -> list[int]:
    """``1,2`` as an option's value."""
    return [int(name) for name in names(text)]


def run_command(main: Callable[[], None]) -> None:
    """Run a script's ``main``; bad input, divergence and Ctrl-C end it with a sentence and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # saving a model imports DeepSpeed where it is installed, which tells those without a GPU so on stdout
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
    torch.set_flush_denormal(True)
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step.*")
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        _end(f"error: {error}", BAD_INPUT)
    except NonFiniteError as error:
        _end(f"error: {error}", DIVERGED)
    except Interrupted as interrupted:
        _end(str(interrupted), INTERRUPTED)
    except KeyboardInterrupt:
        _end("Stopped at once.", INTERRUPTED)
    except BrokenPipeError:  # who reads the output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            raise
        _end(f"error: {error.filename}: {error.strerror}; name another file or mend this one.", BAD_INPUT)


def _end(sentence: str, code: int) -> None:
    process = os.environ.get("RANK", "0")
    if process != "0" and code == INTERRUPTED:
        sys.exit(code)  # Ctrl-C reaches all, and the first answers it
    if process != "0":
        time.sleep(SECONDS_ALONE)  # what ends all processes, the first says: it ends this one before that
        sentence = f"[process {process}] {sentence}"
    print(sentence, file=sys.stderr, flush=True)
    sys.exit(code)
