"""How near a method's hypergradient comes to the exact one, on the same tasks and weights, in float64."""

from pathlib import Path
from typing import Any

import torch
from betty.configs import EngineConfig
from safetensors.torch import load_file
from torch import Tensor

from reckoning_betty.comparison.plan import EXACT, Comparison
from reckoning_betty.data.collate import TaskEncoder
from reckoning_betty.mended_betty import MendedEngine
from reckoning_betty.models.causal_lm import load_model, max_tokens

BATCHES = 3
"""Outer batches that are averaged over, none of which was trained on."""

FRESH = 10**6
"""Number of the outer step whose tasks come first; far from any that training draws."""


def compare_gradients(comparison: Comparison, method: str, num_steps: int, point: Path) -> dict[str, Any]:
    """Cosine and relative error of theta's and the rates' hypergradients, means over ``BATCHES`` batches.

    The exact one is that of the method's own inner problem, proximal term included, so the figures are the method's.

    Args:
        num_steps: N.
        point: a file that ``training.train`` wrote.

    Returns:
        cosine_weights, relative_error_weights, cosine_rates, relative_error_rates; for rates None where the method
        gives them no gradient.
    """
    found: dict[str, list[float]] = {}
    for batch in range(BATCHES):
        exact = hypergradient(comparison, EXACT, num_steps, point, batch, like=method)
        given = hypergradient(comparison, method, num_steps, point, batch)
        for part in ("weights", "rates"):
            if given[part] is None:
                continue
            a, b = given[part], exact[part]
            cosine = (a @ b / (a.norm() * b.norm())).clamp(-1, 1)  # rounding takes it past 1 on some machines
            found.setdefault(f"cosine_{part}", []).append(cosine.item())
            found.setdefault(f"relative_error_{part}", []).append(((a - b).norm() / b.norm()).item())
    names = [f"{what}_{part}" for part in ("weights", "rates") for what in ("cosine", "relative_error")]
    return {name: sum(found[name]) / len(found[name]) if name in found else None for name in names}


def hypergradient(
    comparison: Comparison, method: str, num_steps: int, point: Path, batch: int, like: str | None = None
) -> dict[str, Tensor | None]:
    """The float64 hypergradient of one outer batch, through Betty's engine: ``weights`` [P] and ``rates`` or None."""
    config = comparison.config(method, comparison.seeds[0], num_steps, like)
    splits = comparison.splits(config.seed)
    model, tokenizer = load_model(config.model, splits.vocabulary, config.seed)
    model.double()
    encoder = TaskEncoder(tokenizer, comparison.prompts, max_tokens=max_tokens(model))
    levels = comparison.build_levels("reckoning", config, model, splits.train, encoder)
    outer = levels.outer
    outer.module.double()
    _load(outer.module, point, num_steps)
    outer.outer_step = FRESH + batch  # whose tasks the inner level asks for
    parts: dict[str, list[Tensor]] = {"weights": [], "rates": []}

    def keep() -> None:
        for name, parameter in outer.module.named_parameters():
            if parameter.grad is not None:
                parts["rates" if name.startswith("rates.") else "weights"].append(parameter.grad.flatten().clone())

    outer.optimizer_step, outer.scheduler = keep, None
    engine = MendedEngine(
        levels.problems, EngineConfig(train_iters=num_steps, strategy="accelerate"), levels.dependencies
    )
    engine.run()
    return {part: torch.cat(tensors) if tensors else None for part, tensors in parts.items()}


@torch.no_grad()
def _load(module: torch.nn.Module, point: Path, num_steps: int) -> None:
    """Weights and rates as saved; rates of steps beyond the trained ones are those of the last one."""
    state = load_file(point)
    for name, parameter in module.named_parameters():
        saved = state[name]
        if saved.shape != parameter.shape:
            columns = torch.arange(num_steps).clamp(max=saved.shape[1] - 1)
            saved = saved[:, columns]
        parameter.copy_(saved)
