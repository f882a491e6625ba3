"""Which shapes and engines each sweep of the benchmark measures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reckoning_betty.benchmark.engines import CHECKPOINT, OURS
from reckoning_betty.benchmark.peers import PEERS
from reckoning_betty.benchmark.workload import Shape
from reckoning_betty.errors import UserError


@dataclass(frozen=True, slots=True)
class Sweep:
    """Shapes, from small to large, each measured with every engine.

    Args:
        axis: what grows from one shape to the next in proportion, if it does: memory is then extended along it.
    """

    name: str
    shapes: tuple[Shape, ...]
    engines: tuple[str, ...]
    axis: Literal["tasks", "inner_steps"] | None = None


DEFAULT = Shape(
    width=64,
    layers=2,
    heads=4,
    vocabulary=51,
    positions=128,
    activation="relu",
    tokens=7,
    questions=6,
    question_tokens=9,
    inner_steps=3,
)
"""What `make train` trains, but for the recall of facts."""
GPT2_SMALL = Shape(width=768, layers=12, heads=12, vocabulary=50257, positions=1024, tasks=4, inner_steps=4)
EVERYTHING = (*OURS, *PEERS)
WIDTH = Sweep(
    "width",
    (
        Shape(width=64, layers=2, heads=4, vocabulary=1000),
        Shape(width=256, layers=4, heads=4, vocabulary=1000, tasks=8),
        Shape(width=512, layers=6, heads=8, vocabulary=1000, tasks=4),
    ),
    EVERYTHING,
)
GPT2 = Sweep("gpt2", (GPT2_SMALL,), ("auto", *PEERS))
"""Beyond the other widths: whole copies of four tasks do not fit most machines."""
STEPS = Sweep(
    "steps",
    # a rate at which 16 steps do not blow rounding errors up: at 0.03 two forms in float32 differ by 0.3%
    tuple(replace(GPT2_SMALL, inner_steps=steps, rate=0.003) for steps in (1, 4, 16)),
    ("dual", f"dual{CHECKPOINT}"),
    "inner_steps",
)
TASKS = Sweep(
    "tasks",
    tuple(replace(GPT2_SMALL, tasks=tasks) for tasks in (1, 2, 4, 16)),
    ("dual", f"dual{CHECKPOINT}", "batched"),
    "tasks",
)
GROWTH_AXES: dict[str, tuple[int, ...]] = {
    "width": (32, 64, 128, 256),
    "tokens": (4, 7, 14, 28),
    "facts": (2, 4, 8, 16),
    "tasks": (4, 16, 64),
    "inner_steps": (1, 3, 6, 12),
}
"""From `make train`'s size in one direction each."""
GROWTH = Sweep(
    "growth",
    tuple(
        dict.fromkeys(
            replace(DEFAULT, activation="gelu_new", **{axis: at})
            for axis, values in GROWTH_AXES.items()
            for at in values
        )
    ),
    ("auto",),
)
SWEEPS = {sweep.name: sweep for sweep in (Sweep("default", (DEFAULT,), EVERYTHING), GPT2, WIDTH, STEPS, TASKS, GROWTH)}


def choose_sweeps(names: Sequence[str], engines: Sequence[str] | None, quick: bool) -> list[Sweep]:
    """The sweeps of these names, with these engines only, and tiny with ``quick``.

    Raises:
        UserError: a name that there is not, or nothing left to measure.
    """
    _refuse_unknown("--sweeps", names, SWEEPS)
    _refuse_unknown("--engines", engines or (), EVERYTHING)
    chosen = []
    for name in dict.fromkeys(names):
        sweep = _quick(SWEEPS[name]) if quick else SWEEPS[name]
        if engines:
            kept = tuple(engine for engine in sweep.engines if engine.removesuffix(CHECKPOINT) in engines)
            sweep = replace(sweep, engines=kept)
        chosen.append(sweep)
    if not any(sweep.engines for sweep in chosen):
        raise UserError(
            f"--engines {','.join(engines or ())}: none of them is part of --sweeps {','.join(names)}; add 'default', "
            "which has them all."
        )
    return chosen


def _quick(sweep: Sweep) -> Sweep:
    """The same as far as code goes, with hardly any work."""
    tiny = Shape(
        width=8, layers=1, heads=2, vocabulary=20, tasks=2, facts=2, tokens=5, question_tokens=4, inner_steps=2
    )
    shapes = {
        "default": (tiny,),
        "width": (tiny, replace(tiny, width=16)),
        "gpt2": (tiny,),
        "steps": (replace(tiny, inner_steps=1), tiny, replace(tiny, inner_steps=3)),
        "tasks": (replace(tiny, tasks=1), tiny, replace(tiny, tasks=3)),
        "growth": (tiny, replace(tiny, width=16)),
    }
    return replace(sweep, shapes=shapes[sweep.name])


def _refuse_unknown(option: str, given: Sequence[str], allowed: Sequence[str] | dict[str, Sweep]) -> None:
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise UserError(f"{option} {','.join(unknown)} is not known; choose from {', '.join(allowed)}.")
