"""Prepares the next outer step's data while the current one computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Prepared = TypeVar("Prepared")


class Prefetch(Generic[Prepared]):
    """``make(step)``, made ahead for step + 1 whenever a step is asked for.

    Args:
        make: a pure function of the step, so that what comes does not depend on what was asked for before; what it
            raises, ``get`` raises when its step is asked for.
    """

    def __init__(self, make: Callable[[int], Prepared]):
        self._make = make
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._ahead: tuple[int, Future[Prepared]] | None = None

    def get(self, step: int) -> Prepared:
        """What ``make(step)`` gives."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == step:
            result = ahead[1].result()
        else:
            if ahead is not None:
                wait([ahead[1]])  # one at a time: sources may remember what they made last
            result = self._make(step)
        self._ahead = (step + 1, self._worker.submit(self._make, step + 1))
        return result
