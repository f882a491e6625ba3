"""Batches of tasks of like size, so that little of a batch is padding."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from reckoning_betty.data.task import Task, TaskSource


@dataclass(slots=True)
class Bucketed:
    """The tasks of ``window`` outer steps together, sorted by size, cut into as many steps, which come in random order.

    Over a window the same tasks are drawn as without it, and step s gives the same ones however often a run was
    interrupted.

    Args:
        source: where the tasks come from.
        window: outer steps; 1 changes nothing.
        seed: of the order of the steps.
    """

    source: TaskSource
    window: int
    seed: int
    _made: tuple[tuple[int, int], list[list[Task]]] | None = field(default=None, repr=False)

    def draw(self, step: int, count: int) -> Sequence[Task]:
        """``count`` tasks for outer step ``step`` (0-based)."""
        number, place = divmod(step, self.window)
        made = self._made  # read once: another thread may draw a step ahead
        if made is None or made[0] != (number, count):
            made = self._made = (number, count), self._window(number, count)
        return made[1][place]

    def _window(self, number: int, count: int) -> list[list[Task]]:
        first = number * self.window
        tasks = [task for step in range(first, first + self.window) for task in self.source.draw(step, count)]
        tasks.sort(key=_size)
        steps = [tasks[start : start + count] for start in range(0, len(tasks), count)]
        random.Random(f"{self.seed} {number}").shuffle(steps)
        return steps


def _size(task: Task) -> tuple[int, int]:
    return len(task.facts), max(len(fact) for fact in task.facts)
