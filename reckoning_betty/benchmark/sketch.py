"""Compare hypergradients of large models across processes, by a few numbers for each parameter.

A parameter's gradient is multiplied by fixed random signs and its entries dealt out into ``BUCKETS`` sums. The squared
differences of two such sketches add up to |difference|^2 in expectation, with a relative error of sqrt(2 / BUCKETS).
"""

import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reckoning_betty.benchmark.engines import SHARED_RATE

BUCKETS = 32
CHUNK = BUCKETS * 2**15
"""Entries at a time, so that a sketch takes hardly any memory."""

NEGLIGIBLE = 1e-3
"""Part of the largest gradient's norm below which a parameter's error is not measured by its own norm."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """A hypergradient in short.

    Args:
        norms: of the gradient of each of the starting weights, by name.
        buckets: their sketches.
        rates: the gradient of each rate at each step, by name; empty if the engine gives none.
    """

    norms: dict[str, float]
    buckets: dict[str, list[float]]
    rates: dict[str, list[float]]

    @property
    def checked(self) -> str:
        """What there is to compare."""
        if SHARED_RATE in self.rates:
            return "weights and one rate per step"
        return "weights and rates" if self.rates else "weights"


def sketch(weights: Iterable[tuple[str, Tensor]], rates: Mapping[str, Tensor]) -> Sketch:
    """Of the gradients in ``.grad``; a missing one is 0."""
    norms, buckets = {}, {}
    for name, parameter in weights:
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        norms[name] = gradient.norm().item()
        buckets[name] = _buckets(name, gradient.flatten()).tolist()
    gradients = {name: rate.grad for name, rate in rates.items()}
    return Sketch(norms, buckets, {n: [0.0] * len(rates[n]) if g is None else g.tolist() for n, g in gradients.items()})


def relative_error(found: Sketch, reference: Sketch) -> float:
    """The largest over all parameters, and over the rates as one vector; nan where anything is."""
    floor = NEGLIGIBLE * max(reference.norms.values())
    errors = [
        math.dist(found.buckets[name], reference.buckets[name]) / max(norm, floor, 1e-300)
        for name, norm in reference.norms.items()
    ]
    if SHARED_RATE in found.rates:
        sums = [sum(step) for step in zip(*reference.rates.values(), strict=True)]
        errors.append(_relative(found.rates[SHARED_RATE], sums))
    elif found.rates:
        names = list(reference.rates)
        errors.append(_relative(*([x for n in names for x in s.rates[n]] for s in (found, reference))))
    return math.nan if any(math.isnan(error) for error in errors) else max(errors)


def _relative(found: list[float], reference: list[float]) -> float:
    return math.dist(found, reference) / max(math.hypot(*reference), 1e-300)


def _buckets(name: str, gradient: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    sums = torch.zeros(BUCKETS, dtype=torch.float64)
    for chunk in gradient.split(CHUNK):
        signs = torch.randint(2, chunk.shape, generator=generator, dtype=torch.int8).mul_(2).sub_(1)
        signed = torch.nn.functional.pad(chunk * signs, (0, -len(chunk) % BUCKETS))
        sums += signed.view(-1, BUCKETS).double().sum(0)
    return sums
