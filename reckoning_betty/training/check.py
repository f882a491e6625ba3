"""What is refused before a run writes anything."""

from collections.abc import Callable
from typing import Any

from reckoning_betty.config import RunConfig, has_facts_in_prompt, has_inner_level
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.curriculum import LATE_STEP
from reckoning_betty.data.sanity import as_seen_by
from reckoning_betty.data.task import Splits
from reckoning_betty.errors import require
from reckoning_betty.models.causal_lm import load_model, max_tokens


def check_model(config: RunConfig, splits: Splits, prompts: Prompts, build_levels: Callable[..., Any]) -> int:
    """Refuse, before anything is written, a model that cannot be loaded, read what it will be given, or be adapted.

    The test's rows are the longest, and without this would be refused only after hours of training.

    Returns:
        The model's number of parameters.

    Raises:
        UserError: as ``load_model``, rows longer than the model's context, answers longer than decoding goes on for,
            nothing to adapt, or too few tasks for the method.
    """
    model, tokenizer = load_model(config.model, splits.vocabulary, config.seed)
    encoder = TaskEncoder(tokenizer, prompts, max_tokens=max_tokens(model))
    size = config.evaluation.tasks_per_batch
    for method in config.methods:
        fixed = [(as_seen_by(method, tasks), False) for tasks in (splits.validation, splits.test) if tasks]
        drawn = splits.train.draw(LATE_STEP, config.training(method).tasks_per_step)
        for tasks, training in [*fixed, (drawn, True)]:
            recall = training and config.effective_knowledge_weight > 0
            for batch in (tasks[start : start + size] for start in range(0, len(tasks), size)):
                if has_facts_in_prompt(method):
                    asked = encoder.in_context(batch, recall).answers
                else:
                    asked = encoder.without_facts(batch, training and config.recalls_behind_answers).answers
                longest, cap = int(asked.scored.sum(-1).max()) - 1, config.evaluation.max_answer_tokens
                cut = f"an answer has {longest} tokens, so it could never be given; take {longest} or more"
                require(longest <= cap, "evaluation.max_answer_tokens", cap, cut)
                if has_inner_level(method):
                    encoder.knowledge(batch)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for method in config.methods:
        if model is None:  # the one before has adapters now, or is sharded; and two would not always fit
            model, _ = load_model(config.model, splits.vocabulary, config.seed)
        build_levels(method, config, model, splits.train, encoder)
        model = None
    return parameters
