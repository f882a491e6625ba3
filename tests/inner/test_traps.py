"""Models on which fast weights would be wrong in silence are refused, whoever starts them."""

import warnings

import pytest
import torch
from tiny_models import tiny_gpt2, tiny_llama
from torch import nn

from reckoning_betty.errors import UserError
from reckoning_betty.inner.fast_weights import FastWeightsPlan
from reckoning_betty.inner.traps import refuse_mixed_tasks
from reckoning_betty.models.causal_lm import adapted_names

VOCABULARY = 20


def start(model):
    names = [name for name, _ in model.named_parameters()]
    return FastWeightsPlan(names=names, form="dual").start(model, 2)


def with_checkpointing(model):
    model.activation_checkpointing_enable()


def with_fused_attention(model):
    model.set_attn_implementation("sdpa")


def with_a_compiled_part(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing torch's compiler warns of torch's own past
        model.model.layers[1].mlp = torch.compile(model.model.layers[1].mlp)


def compiled_in_place(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.model.layers[0].compile()


def with_dropout(model):
    model.model.extra = nn.Dropout(0.1)
    model.train()


def in_16_bits(model):
    model.to(torch.bfloat16)


TRAPS = {
    with_checkpointing: r"activation_checkpointing_disable\(\).*inner.checkpoint=true",
    with_fused_attention: "'sdpa', and only eager is twice differentiable",
    with_a_compiled_part: "'model.layers.1.mlp' is compiled",
    compiled_in_place: "'model.layers.0' is compiled",
    with_dropout: r"'model.extra' drops out at random: call model.eval\(\)",
    in_16_bits: r"model.embed_tokens.weight is bfloat16.*call model.float\(\)",
}


@pytest.mark.parametrize("spoil", TRAPS, ids=lambda spoil: spoil.__name__)
def test_a_model_with_a_trap_is_refused(spoil):
    model = tiny_llama(VOCABULARY)
    start(model)
    spoil(model)
    with pytest.raises(UserError, match=TRAPS[spoil]):
        start(model)


class Sorted(nn.Module):
    """Gives its layer the tokens of a batch by what they hold, as a mixture sends them to its experts."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        tokens = x.flatten(0, 1)
        order = tokens[:, 0].argsort()
        return self.layer(tokens[order].unsqueeze(1))[order.argsort()].view(x.shape)


def test_a_model_that_mixes_tasks_is_refused():
    model = tiny_gpt2(VOCABULARY)
    refuse_mixed_tasks(model, [name for name, _ in model.named_parameters()])
    model.transformer.h[0].mlp = Sorted(model.transformer.h[0].mlp)
    with pytest.raises(UserError, match=r"tasks would mix: take inner.fast_weights=looped"):
        refuse_mixed_tasks(model, [name for name, _ in model.named_parameters()])


@pytest.mark.parametrize(
    ("patterns", "top_layers", "sentence"),
    [
        (["*.nothing"], 0, r"no parameter fits '\*.nothing'; names look like transformer"),
        (["*"], 3, r"inner.top_layers=3 is not possible: the model has 2 layers"),
        (["*wte*"], 1, "leave nothing to adapt"),
    ],
)
def test_nothing_to_adapt_is_refused(patterns, top_layers, sentence):
    with pytest.raises(UserError, match=sentence):
        adapted_names(tiny_gpt2(VOCABULARY), patterns, top_layers)


def test_top_layers_leave_embeddings_and_head_out():
    names = adapted_names(tiny_gpt2(VOCABULARY), ["*"], 1)
    assert names
    assert all(name.startswith("transformer.h.1.") for name in names)
