"""What is measured: one outer step on random tokens, with a randomly initialised GPT-2 of a given shape."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from reckoning_betty.models.causal_lm import DIFFERENTIABLE_ATTENTION, make_twice_differentiable


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Everything that decides about the work of an outer step.

    Args:
        vocabulary: also the size of the tied head.
        positions: rows of the table of positions.
        activation: of the feed-forward blocks, by its name in transformers. In float32 a smooth one: at ReLU's kinks
            rounding decides about a unit, and hypergradients that are both right may differ by percents.
        tasks: B, of one outer step.
        facts: of each task.
        tokens: of each fact; the last is not read, nothing follows it.
        questions: of each task.
        question_tokens: of each question, likewise.
        inner_steps: N.
        rate: every alpha[l, k]. One value for all, because not every library can be given more.
        dtype: of the weights, by its name in torch.
        seed: of weights and tokens.
    """

    width: int
    layers: int
    heads: int
    vocabulary: int
    positions: int = 64
    activation: str = "gelu_new"
    tasks: int = 16
    facts: int = 4
    tokens: int = 10
    questions: int = 1
    question_tokens: int = 8
    inner_steps: int = 4
    rate: float = 0.03
    dtype: str = "float32"
    seed: int = 0


@dataclass(slots=True)
class Workload:
    """A model, the tokens of its tasks and the rates of its inner level.

    Args:
        rates: alpha by parameter name, leaves [N].
        facts: ids [B, R, T].
        questions: ids [B, R, T].
    """

    shape: Shape
    model: PreTrainedModel
    rates: dict[str, Tensor]
    facts: Tensor
    questions: Tensor
    names: list[str] = field(init=False)

    def __post_init__(self):
        self.names = [name for name, _ in self.model.named_parameters()]


def make_workload(shape: Shape) -> Workload:
    """The same for the same shape, in every process."""
    torch.manual_seed(shape.seed)
    config = GPT2Config(
        vocab_size=shape.vocabulary,
        n_positions=shape.positions,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        activation_function=shape.activation,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation=DIFFERENTIABLE_ATTENTION,
    )
    dtype = getattr(torch, shape.dtype)
    model = make_twice_differentiable(GPT2LMHeadModel(config).to(dtype))
    rates = {
        name: torch.full((shape.inner_steps,), shape.rate, dtype=dtype, requires_grad=True)
        for name, _ in model.named_parameters()
    }
    facts = torch.randint(shape.vocabulary, (shape.tasks, shape.facts, shape.tokens))
    questions = torch.randint(shape.vocabulary, (shape.tasks, shape.questions, shape.question_tokens))
    return Workload(shape, model, rates, facts, questions)


def task_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """Each task's own mean token NLL [B], from logits [B, R, T-1, V] and ids [B, R, T]."""
    nll = F.cross_entropy(logits.flatten(0, -2), tokens[..., 1:].flatten(), reduction="none")
    return nll.view(tokens.shape[0], -1).mean(1)


def loss_of_one_task(model: nn.Module, tokens: Tensor) -> Tensor:
    """``model``'s mean token NLL on one task's rows [R, T], with the model called as any of its users would."""
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
