"""The bill of an outer step, from running it without values."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from reckoning_betty.errors import UserError
from reckoning_betty.planning.bill import Bill, Traced
from reckoning_betty.planning.ledger import Ledger
from reckoning_betty.planning.outer_step import OuterStep, run, with_optimizer_state

FAST_WEIGHTS = "reckoning_betty.inner"
"""The package of their classes."""


@dataclass(frozen=True, slots=True)
class LastOf:
    """Stands for ``Processes``: the last of ``number``, whose share is the largest; the others are silent."""

    number: int

    def part(self, count: int) -> slice:
        return slice(count * (self.number - 1) // self.number, count)

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor.clone()


def trace(step: OuterStep, devices: int = 1) -> Traced:
    """Run ``step`` on tensors without values, as one of ``devices`` processes with whole weights each would.

    It is the second outer step that is run, where the optimizer's state is there: everything after it is the same.

    Raises:
        UserError: settings that exclude each other, or fewer tasks than devices.
    """
    tasks, passes = step.config.reckoning.tasks_per_step, step.config.reckoning.accumulation_steps
    if tasks < devices * passes:
        raise UserError(
            f"reckoning.tasks_per_step={tasks} leaves some of {devices} devices without a task: give --devices "
            f"{max(1, tasks // passes)} or fewer, or reckoning.tasks_per_step={devices * passes}."
        )
    with Ledger() as ledger:
        levels = step.make_levels("meta")
        outer, encoding = levels.outer, levels.problems[0]
        outer.processes = LastOf(devices)
        with_optimizer_state(levels)
        module = outer.module
        weights = _storages([*module.parameters(), *module.buffers()])
        optimizer = _storages(tensor for state in outer.optimizer.state.values() for tensor in state.values())
        before, seen = ledger.held, {}

        def at_inner_end() -> None:
            held = _storages(_tensors_in(encoding.fast))
            seen["fast"] = sum(size for storage, size in held.items() if storage not in weights)
            seen["inner"] = ledger.held - before

        def at_backward_end() -> None:
            gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
            seen["gradients"] = sum(_storages(gradients).values())

        _call_first(outer, "get_batch", at_inner_end)
        _call_first(outer, "grad_callback", at_backward_end)
        ledger.forget_peak()
        run(levels, 1)
    bill = Bill(
        weights=sum(weights.values()),
        optimizer=sum(optimizer.values()),
        gradients=seen["gradients"],
        fast_weights=seen["fast"],
        activations_per_step=max(0, seen["inner"] - seen["fast"]) // step.config.inner.steps,
        peak=ledger.peak,
    )
    plan, matrices = encoding.plan, [parameter for parameter in module.model.parameters() if parameter.ndim == 2]
    return Traced(
        bill=bill,
        form=plan.form,
        holds_copies=not plan.optimizer.linear,
        matrices=sum(_storages(matrices).values()),
        trained_matrices=sum(_storages(matrix for matrix in matrices if matrix.requires_grad).values()),
        largest_matrix=max(_storages(matrices).values()),
        trained=sum(_storages(outer.trainable_parameters()).values()),
        steps_matrices=step.config.reckoning.optimizer == "muon",
    )


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Bytes of each storage that ``tensors`` are views of."""
    return {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}


def _tensors_in(thing: Any) -> Iterator[Tensor]:
    """All tensors that fast weights are made of; not those of the model that they change."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from _tensors_in(value)
    elif isinstance(thing, (list, tuple)):
        for value in thing:
            yield from _tensors_in(value)
    elif type(thing).__module__.startswith(FAST_WEIGHTS) and not isinstance(thing, nn.Module):
        for name in (*getattr(type(thing), "__slots__", ()), *getattr(thing, "__dict__", ())):
            yield from _tensors_in(getattr(thing, name))


def _call_first(owner: Any, name: str, call: Callable[[], None]) -> None:
    """Let ``call`` go before ``owner``'s method of that name."""
    method = getattr(owner, name)

    def both(*args: Any, **kwargs: Any) -> Any:
        call()
        return method(*args, **kwargs)

    setattr(owner, name, both)
