"""Each method as Betty problems and their dependencies: what ``method=`` and ``baselines=`` choose from."""

from dataclasses import dataclass

import torch
from betty.problems import Problem
from transformers import PreTrainedModel

from problems.in_context import InContext
from problems.knowledge_encoding import ImplicitKnowledgeEncoding, KnowledgeEncoding
from problems.outer_level import OuterLevel
from problems.reasoning import MetaParameters, Reasoning
from reckoning_betty.config import RunConfig, has_facts_in_prompt, has_inner_level
from reckoning_betty.data.buckets import Bucketed
from reckoning_betty.data.collate import TaskEncoder
from reckoning_betty.data.sanity import SeenBy
from reckoning_betty.data.task import TaskSource
from reckoning_betty.distributed.fsdp import fully_sharded
from reckoning_betty.distributed.processes import Processes
from reckoning_betty.distributed.sharding import shard_matrices
from reckoning_betty.distributed.strategies import Strategy, launched_strategy
from reckoning_betty.errors import UserError
from reckoning_betty.inner.fast_weights import plan_fast_weights
from reckoning_betty.inner.precision import precision_of
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.inner.traps import refuse_mixed_tasks
from reckoning_betty.models.adapters import add_adapters, has_adapters
from reckoning_betty.models.causal_lm import adapted_names, layer_names


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
    note: str = ""
    """What was chosen for the user, and why."""


def build_levels(
    method: str,
    config: RunConfig,
    model: PreTrainedModel,
    source: TaskSource,
    encoder: TaskEncoder,
    device: torch.device | str = "cpu",
) -> Levels:
    """The levels of one of ``config.Method`` around ``model``.

    With ``inner.fast_weights=lora``, ``model`` gets its adapters here, whatever the method.

    Raises:
        UserError: nothing to adapt, adapters that fit no layer, fewer tasks than processes and passes, a launch that
            cannot train, or fast weights that sharded matrices do not allow.
    """
    training, weight, processes = config.training(method), config.effective_knowledge_weight, Processes()
    strategy = launched_strategy(config.shard_weights, processes)
    section, num_passes = config.section(method), training.accumulation_steps
    if training.optimizer == "muon" and strategy is not Strategy.WHOLE:
        raise UserError(
            f"{section}.optimizer=muon steps whole matrices, which {strategy} parts among processes: take "
            f"{section}.optimizer=adamw, or launch with engine_configs/accelerate/multi_gpu.yaml and "
            "shard_weights=false."
        )
    if training.tasks_per_step < processes.number * num_passes:
        passes = f" in some of {num_passes} passes" if num_passes > 1 else ""
        raise UserError(
            f"{section}.tasks_per_step={training.tasks_per_step} leaves some of {processes.number} processes without a "
            f"task{passes}: launch fewer, or take {section}.tasks_per_step={processes.number * num_passes} or more."
        )
    tasks_per_pass = -(-training.tasks_per_step // num_passes)
    if method in ("no_question", "random_facts"):
        source = SeenBy(method, source)
    if training.bucket_steps > 1:
        source = Bucketed(source, training.bucket_steps, config.seed)
    inner = config.inner
    if inner.fast_weights == "lora" and not has_adapters(model):
        rank, alpha, stabilised = inner.lora_rank, inner.lora_alpha, inner.lora_rank_stabilised
        add_adapters(model, rank, alpha, inner.lora_targets, stabilised, inner.top_layers)
    if has_inner_level(method):
        method = config.hypergradient_method
        names, layers = adapted_names(model, inner.adapt, inner.top_layers), layer_names(model)
        rates = InnerRates({name: layers[name] for name in names}, inner.steps, inner.initial_rate, inner.rates)
        if not method.trains_rates:
            rates.requires_grad_(False)
        module = MetaParameters(model, rates).to(device)
        if strategy.shards_weights:
            shard_matrices(model, processes)
        rate_step, term = inner.rate_learning_rate, config.knowledge_term
        reasoning = Reasoning(module, training, rate_step, source, encoder, weight, method, term)
        facts = encoder.knowledge(source.draw(0, training.tasks_per_step)[:tasks_per_pass]).facts
        plan = plan_fast_weights(
            model,
            names,
            "batched" if method.is_implicit else inner.fast_weights,
            num_tasks=tasks_per_pass,
            num_tokens=facts.num_tokens,
            num_steps=inner.steps,
            optimizer=inner.make_optimizer(),
            checkpoint=inner.checkpoint,
            forward_over_reverse=method.sweeps_forward,
        )
        if strategy.shards_weights and plan.form in ("looped", "swept"):
            raise UserError(
                f"{strategy} gathers matrix by matrix, and fast weights that are {plan.reason} want the whole model: "
                "take inner.fast_weights=auto and hypergradient=unrolled, or launch with "
                "engine_configs/accelerate/multi_gpu.yaml and shard_weights=false."
            )
        if plan.form not in ("looped", "swept"):
            refuse_mixed_tasks(model, names)
        parameters = dict(model.named_parameters())
        level = ImplicitKnowledgeEncoding if method.is_implicit else KnowledgeEncoding
        start = [parameters[name] for name in names]
        encoding = level(inner.steps, plan, method, start, tasks_per_pass, inner.facts_per_pass, inner.reduction)
        note = f"fast weights: {plan.reason}"
        if method.is_implicit:
            how = "trained through the first-order path" if method.trains_rates else "frozen at their initial values"
            note += f"; inner rates: {how}, because implicit hypergradients give them none"
        return Levels(
            outer=reasoning,
            problems=[encoding, reasoning],
            dependencies={"l2u": {encoding: [reasoning]}, "u2l": {reasoning: [encoding]}},
            iterations_per_step=inner.steps * num_passes,
            model=model,
            rates=rates,
            note=note,
        )
    model.to(device)
    wrapped = None
    if strategy is Strategy.FSDP2 and precision_of(model) == "float32":  # the model's own products round nothing
        wrapped = fully_sharded(model, processes)
    elif strategy.shards_weights:
        shard_matrices(model, processes)
    level = InContext(model, training, source, encoder, weight, has_facts_in_prompt(method), wrapped)
    return Levels(
        outer=level,
        problems=[level],
        dependencies={"l2u": {}, "u2l": {}},
        iterations_per_step=num_passes,
        model=model,
        rates=None,
    )
