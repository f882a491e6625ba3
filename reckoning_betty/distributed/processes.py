"""What the processes of a run share out, agree on, and leave to the first of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env, reduce
from torch import Tensor

T = TypeVar("T")


def part_of(count: int, index: int, number: int) -> slice:
    """The part ``index`` of ``count`` neighbours in ``number`` parts, which differ by one at most."""
    return slice(count * index // number, count * (index + 1) // number)


def _on_cpu() -> bool:
    """Accelerate takes several processes for one where there is no accelerator and it is not told so."""
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that ``accelerate launch`` started; one of one without it.

    Every method but ``part`` has to be called by all of them, in the same order.
    """

    state: PartialState = field(default_factory=lambda: PartialState(cpu=_on_cpu()))

    @property
    def number(self) -> int:
        return self.state.num_processes

    @property
    def number_here(self) -> int:
        """How many of them share this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", 1))

    @property
    def index(self) -> int:
        return self.state.process_index

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and speaks to people."""
        return self.index == 0

    def part(self, count: int) -> slice:
        """This process's neighbours out of ``count``; parts differ by one at most."""
        return part_of(count, self.index, self.number)

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in one of the processes."""
        return self.sum(torch.tensor(float(flag))).item() > 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor, summed over processes."""
        if self.number == 1:
            return tensor
        return reduce(tensor.to(self.state.device), "sum")

    def gathered(self, items: list[T]) -> list[T]:
        """The items of all processes, in their order. They travel pickled, so only ours ever do."""
        return items if self.number == 1 else gather_object(items)

    def from_main(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in the first process, or raises there: then the same everywhere, and nobody waits."""
        if self.number == 1:
            return make()
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome = [make(), None]
            except Exception as error:
                outcome = [None, error]
        broadcast_object_list(outcome, from_process=0)
        result, error = outcome
        if error is not None:
            raise error
        return result

    def on_main(self, act: Callable[[], Any]) -> None:
        """As ``from_main``, for what is done and not for what it gives."""

        def run() -> None:
            act()

        self.from_main(run)
