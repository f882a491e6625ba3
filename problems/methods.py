"""Each method as Betty problems and their dependencies: what ``method=`` and ``baselines=`` choose from."""

from dataclasses import dataclass

import torch
from betty.problems import Problem
from transformers import PreTrainedModel

from problems.in_context import InContext
from problems.knowledge_encoding import KnowledgeEncoding
from problems.outer_level import OuterLevel
from problems.reasoning import MetaParameters, Reasoning
from reckoning_betty.config import RunConfig
from reckoning_betty.data.collate import TaskEncoder
from reckoning_betty.data.task import TaskSource
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.causal_lm import layer_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """What Betty's engine needs to train a method."""

    outer: OuterLevel
    problems: list[Problem]
    dependencies: dict
    iterations_per_step: int
    """Engine iterations per outer step: the inner steps, or 1 without an inner level."""
    model: PreTrainedModel
    rates: InnerRates | None


def build_levels(
    method: str,
    config: RunConfig,
    model: PreTrainedModel,
    source: TaskSource,
    encoder: TaskEncoder,
    device: torch.device | str = "cpu",
) -> Levels:
    """The levels of ``reckoning``, ``in_context`` or ``no_facts`` around ``model``."""
    training, weight = config.training(method), config.effective_knowledge_weight
    if method == "reckoning":
        inner = config.inner
        rates = InnerRates(layer_names(model), inner.steps, inner.initial_rate, inner.rates)
        module = MetaParameters(model, rates).to(device)
        reasoning = Reasoning(module, training, inner.rate_learning_rate, source, encoder, weight)
        encoding = KnowledgeEncoding(inner.steps, inner.fast_weights)
        return Levels(
            outer=reasoning,
            problems=[encoding, reasoning],
            dependencies={"l2u": {encoding: [reasoning]}, "u2l": {reasoning: [encoding]}},
            iterations_per_step=inner.steps,
            model=model,
            rates=rates,
        )
    level = InContext(model.to(device), training, source, encoder, weight, with_facts=method == "in_context")
    return Levels(
        outer=level,
        problems=[level],
        dependencies={"l2u": {}, "u2l": {}},
        iterations_per_step=1,
        model=model,
        rates=None,
    )
