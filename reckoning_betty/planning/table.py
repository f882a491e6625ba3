"""Bills of every strategy and method, which of them fit, and what to change where none does."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from reckoning_betty.config import RunConfig
from reckoning_betty.errors import UserError
from reckoning_betty.hypergradients.registry import METHODS, find_method
from reckoning_betty.planning.bill import GIB, Bill
from reckoning_betty.planning.outer_step import OuterStep
from reckoning_betty.planning.strategies import shard_weights, strategies_for
from reckoning_betty.planning.trace import trace

MARGIN = 1.2
"""A plan is sure to fit in this many times its peak: measured peaks lie within 20% (``check.py``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A strategy and a method: a bill, or why there is none."""

    method: str
    strategy: str
    bill: Bill | None = None
    impossible: str = ""

    def fits(self, memory: float) -> str:
        """``yes``; ``tight``, within the error of the plan; or ``no``, for ``memory`` bytes."""
        if self.bill is None or self.bill.peak > memory:
            return "no"
        return "yes" if MARGIN * self.bill.peak <= memory else "tight"

    def as_json(self, memory: float) -> dict[str, Any]:
        """Bytes by entry."""
        entry = {"method": self.method, "strategy": self.strategy, "fits": self.fits(memory)}
        return entry | (asdict(self.bill) if self.bill else {"impossible": self.impossible})


def config_of(base: RunConfig, method: str) -> RunConfig:
    """The run with another hypergradient method, and no more than it asks for changed.

    Raises:
        UserError: a setting that the method does not allow.
    """
    if method == base.hypergradient:
        return base
    inner, kind = base.inner, find_method(method)
    if kind.is_implicit:
        inner = replace(inner, proximal=inner.proximal or 1.0, checkpoint=False)
    return replace(base, hypergradient=method, hypergradient_options=kind(), inner=inner)


def rows_of(step: OuterStep, devices: int, on_method: Callable[[str], None]) -> Iterator[Row]:
    """Every method, the run's own first, under every strategy; ``on_method`` is called before each."""
    own = step.config.hypergradient
    for method in (own, *(name for name in METHODS if name != own)):
        on_method(method)
        try:
            traced = trace(replace(step, config=config_of(step.config, method)), devices)
        except UserError as error:
            if method == own:
                raise
            yield Row(method=method, strategy="any", impossible=str(error).split(";")[0].rstrip("."))
            continue
        for name, strategy in strategies_for(devices).items():
            try:
                yield Row(method=method, strategy=name, bill=strategy(traced, devices))
            except UserError as error:
                yield Row(method=method, strategy=name, impossible=str(error))


def lines_of(rows: list[Row], memory: float) -> list[str]:
    """The table in GiB, as text."""
    names = ("weights", "optimizer", "gradients", "fast_weights", "activations_per_step", "peak")
    heads = ("weights", "optimizer", "gradients", "fast weights", "per inner step", "peak", "fits")
    lines = [f"{'method':21}{'strategy':15}" + "".join(f"{head:>15}" for head in heads)]
    lines.append("-" * len(lines[0]))
    for row in rows:
        start = f"{row.method:21}{row.strategy:15}"
        if row.bill is None:
            lines.append(f"{start}  {row.impossible}")
        else:
            sizes = "".join(f"{getattr(row.bill, name) / GIB:>15.2f}" for name in names)
            lines.append(f"{start}{sizes}{row.fits(memory):>15}")
    return lines


def changes(step: OuterStep, devices: int, peak: int) -> Iterator[tuple[str, Bill]]:
    """Settings to type so that the run's own method takes less than ``peak``, and the bill that they lead to.

    Each is added to those before, if it helps.
    """
    typed: list[str] = []
    for override, changed in _single_changes(devices):
        smaller = replace(step, config=changed(step.config))
        try:
            traced = trace(smaller, devices)
        except UserError:
            continue  # the method does not go with it
        if traced.bill.peak >= peak:
            continue
        peak, step = traced.bill.peak, smaller
        typed.append(override)
        yield " ".join(typed), traced.bill
        if devices > 1:
            try:
                sharded = shard_weights(traced, devices)
            except UserError:
                continue
            yield " ".join([*typed, "shard_weights=true"]), sharded


def _single_changes(devices: int) -> Iterator[tuple[str, Callable[[RunConfig], RunConfig]]]:
    def inner(**options: Any) -> Callable[[RunConfig], RunConfig]:
        return lambda config: replace(config, inner=replace(config.inner, **options))

    yield "inner.checkpoint=true", inner(checkpoint=True)
    yield (
        f"reckoning.tasks_per_step={devices}",
        lambda config: replace(config, reckoning=replace(config.reckoning, tasks_per_step=devices)),
    )
    yield "inner.fast_weights=lora", inner(fast_weights="lora")
