"""What is compared: methods, seeds, budgets, and the run config that each method gets."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from reckoning_betty.config import RunConfig
from reckoning_betty.data.collate import Prompts
from reckoning_betty.errors import UserError
from reckoning_betty.hypergradients.registry import METHODS, find_method

EXACT = "unrolled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one comparison is made of. Everything here can be pickled, so that workers get all of it.

    Args:
        base: the run config of all methods but for what follows.
        options: each method's own options, by its name.
        methods: names.
        seeds: of the training runs.
        steps: S, outer steps of the first budget; the second is the time that ``unrolled`` takes for them.
        inner_steps: the N at which gradients and costs are measured.
        proximal: lambda, for the methods that need one.
        validate_every: outer steps between points of the curves.
        load_splits: the problem's.
        build_levels: ``problems.methods.build_levels``.
        prompts: the problem's.
    """

    base: RunConfig
    options: dict[str, dict[str, Any]]
    methods: list[str]
    seeds: list[int]
    steps: int
    inner_steps: list[int]
    proximal: float
    validate_every: int
    load_splits: Callable[..., Any]
    build_levels: Callable[..., Any]
    prompts: Prompts

    def config(self, method: str, seed: int, num_steps: int | None = None, like: str | None = None) -> RunConfig:
        """The run config of ``method``, with ``num_steps`` inner steps; with the inner problem of ``like``, if given.

        Raises:
            UserError: an option that the method does not have or allow.
        """
        options = self._options_of(method)
        owner = find_method(like or method)
        inner = replace(self.base.inner, steps=num_steps or self.base.inner.steps)
        if owner.is_implicit and inner.proximal == 0:
            inner = replace(inner, proximal=self.proximal)
        if "last_steps" in options.__slots__ and options.last_steps > inner.steps:
            options = replace(options, last_steps=inner.steps)
        # a constant learning rate after warm-up: every point of a curve then stands for a run that ends there
        training = replace(self.base.reckoning, steps=10**9, schedule="constant")
        return replace(
            self.base,
            method="reckoning",
            baselines=[],
            hypergradient=method,
            hypergradient_options=options,
            inner=inner,
            reckoning=training,
            seed=seed,
        )

    def splits(self, seed: int) -> Any:
        """The problem's data sets; a process makes them once, as the test set takes longer than a hypergradient."""
        return _splits(self.load_splits, self.base.data, self.base.data_path, seed)

    def _options_of(self, method: str) -> Any:
        given, kind = self.options.get(method, {}), find_method(method)
        known = [field.name for field in fields(kind)]
        unknown = [name for name in given if name not in known]
        if unknown:
            allowed = f"it takes {', '.join(known)}" if known else "it has no options"
            raise UserError(f"{method} has no option {', '.join(unknown)}: {allowed}.")
        return kind(**given)

    def fingerprint(self) -> dict[str, Any]:
        """What results depend on, for those that are found on disk."""
        return {
            "base": repr(self.base),
            "options": {name: dict(value) for name, value in self.options.items()},
            "steps": self.steps,
            "proximal": self.proximal,
            "validate_every": self.validate_every,
        }


@lru_cache(maxsize=4)
def _splits(load_splits: Callable[..., Any], data: Any, path: str, seed: int) -> Any:
    return load_splits(data, path or None, seed)


def all_methods() -> list[str]:
    """Every method, the exact one first."""
    return list(METHODS)
