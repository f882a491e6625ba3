"""Decoders of two layers, for tests that compare numbers."""

import torch
import transformers

from reckoning_betty.models.causal_lm import make_twice_differentiable


def tiny_gpt2(vocabulary: int, **options):
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_positions=64, n_embd=8, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1, **options
    )
    return _seeded(transformers.GPT2LMHeadModel, config)


def tiny_llama(vocabulary: int, **options):
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=1,
        **options,
    )
    return _seeded(transformers.LlamaForCausalLM, config)


def _seeded(model_class, config):
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than the default, so that every derivative is far from 0
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return make_twice_differentiable(model)


MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama}
