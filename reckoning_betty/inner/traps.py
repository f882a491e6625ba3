"""Refuses models on which fast weights would give wrong numbers without an error (DESIGN.md section 5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from reckoning_betty.errors import UserError
from reckoning_betty.inner.one_pass import OnePassWeights
from reckoning_betty.inner.optimizers import GradientDescent

ADVICE = "pass the model through reckoning_betty.models.causal_lm.make_twice_differentiable first"


def refuse_silent_traps(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Raise UserError for a model or adapted parameters that cannot carry fast weights.

    - per-layer gradient checkpointing: it recomputes with the weights that the model holds by then;
    - fused attention: no second derivative, or one that lacks terms;
    - compiled modules: no second derivative;
    - dropout: a step that is recomputed would meet another mask;
    - 16-bit fast weights: a step of 1e-5 leaves a weight of 0.02 where it was.
    """
    if model.is_activation_checkpointing:
        raise UserError(
            "The model has per-layer gradient checkpointing on, which recomputes with the wrong fast weights: "
            "call model.activation_checkpointing_disable(), and take inner.checkpoint=true instead."
        )
    attention = model.config.get_text_config()._attn_implementation
    if attention != "eager":
        raise UserError(f"The model's attention is '{attention}', and only eager is twice differentiable: {ADVICE}.")
    for name, module in model.named_modules():
        if isinstance(module, torch._dynamo.eval_frame.OptimizedModule) or module._compiled_call_impl is not None:
            raise UserError(
                f"The model's part '{name}' is compiled, and has no second derivative: take it without torch.compile."
            )
        if isinstance(module, nn.Dropout) and module.training and module.p > 0:
            raise UserError(f"The model's part '{name}' drops out at random: call model.eval() first.")
    for name in names:
        dtype = model.get_parameter(name).dtype
        if dtype not in (torch.float32, torch.float64):
            raise UserError(
                f"The parameter {name} is {str(dtype).removeprefix('torch.')}, where small inner steps are lost: "
                "fast weights need float32, so call model.float()."
            )


def refuse_mixed_tasks(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Raise UserError for a model in which rows of a batch do not keep their order, as in mixtures of experts.

    One pass of the model gives each stretch of the batch another task's weights, so two tasks together must answer as
    each does alone.
    """
    size = model.config.get_text_config().vocab_size
    tokens = (torch.arange(8, device=model.device).view(2, 1, 4) * 7) % size

    def logits_after_a_step(rows: Tensor) -> Tensor:
        with torch.enable_grad():
            fast = OnePassWeights.start(model, names, len(rows), GradientDescent(), lambda *sizes: True).cut()
            rates = {name: torch.tensor(0.1, device=model.device) for name in names}
            fast, _ = fast.step(lambda now: now.logits(rows).square().mean((1, 2, 3)), rates, create_graph=False)
        with torch.no_grad():
            return fast.logits(rows)

    together = logits_after_a_step(tokens)
    alone = torch.cat([logits_after_a_step(tokens[:1]), logits_after_a_step(tokens[1:])])
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
        raise UserError(
            f"{type(model).__name__} does not keep the rows of a batch in order, so tasks would mix: "
            "take inner.fast_weights=looped."
        )
