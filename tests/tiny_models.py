"""Decoders of two layers, for tests that compare numbers."""

import functools

import torch
import transformers

from reckoning_betty.models.causal_lm import make_twice_differentiable


def tiny_gpt2(vocabulary: int, **options):
    shape = {
        "vocab_size": vocabulary,
        "n_positions": 64,
        "n_embd": 8,
        "n_layer": 2,
        "n_head": 2,
        "bos_token_id": 1,
        "eos_token_id": 1,
    }
    return _seeded(transformers.GPT2LMHeadModel, transformers.GPT2Config(**shape | options))


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


def tiny_mistral(vocabulary: int, **options):
    """Grouped queries, and a window of 3 tokens."""
    return _seeded(transformers.MistralForCausalLM, transformers.MistralConfig(**_llama_like(vocabulary, 3) | options))


def tiny_qwen3(vocabulary: int, **options):
    """Norms of queries and keys; heads wider than width / heads."""
    return _seeded(
        transformers.Qwen3ForCausalLM, transformers.Qwen3Config(**_llama_like(vocabulary) | {"head_dim": 6} | options)
    )


def tiny_gemma3(vocabulary: int, **options):
    """Scaled embeddings, norms by 1 + w, norms of queries and keys, four norms a layer, one layer with a window."""
    shape = _llama_like(vocabulary, 3) | {
        "head_dim": 6,
        "query_pre_attn_scalar": 6,
        "layer_types": ["sliding_attention", "full_attention"],
        "pad_token_id": 0,
    }
    return _seeded(transformers.Gemma3ForCausalLM, transformers.Gemma3TextConfig(**shape | options))


def tiny_opt(vocabulary: int, **options):
    """Biases everywhere, learned positions; id 1 is padding, whose embedding is not learned."""
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 8,
        "word_embed_proj_dim": 8,
        "ffn_dim": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "dropout": 0.0,
        "pad_token_id": 1,
        "bos_token_id": 2,
        "eos_token_id": 2,
    }
    return _seeded(transformers.OPTForCausalLM, transformers.OPTConfig(**shape | options))


def tiny_gpt_neox(vocabulary: int, **options):
    """Pythia: attention and MLP in parallel, rotary positions on a part of each head."""
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "rotary_pct": 0.5,
        "bos_token_id": 1,
        "eos_token_id": 1,
    }
    return _seeded(transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig(**shape | options))


def tiny_phi(vocabulary: int, **options):
    """Attention and MLP in parallel, biases everywhere, the head's included."""
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "partial_rotary_factor": 0.5,
        "bos_token_id": 1,
        "eos_token_id": 1,
    }
    return _seeded(transformers.PhiForCausalLM, transformers.PhiConfig(**shape | options))


def _llama_like(vocabulary: int, window: int | None = None) -> dict:
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 1,
    }
    return shape if window is None else shape | {"sliding_window": window}


def _seeded(model_class, config):
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than the default, so that every derivative is far from 0
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return make_twice_differentiable(model)


MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama}

FAMILIES = {
    "gpt2": tiny_gpt2,
    "llama": tiny_llama,
    "mistral": tiny_mistral,
    "qwen3": tiny_qwen3,
    "gemma3": tiny_gemma3,
    "opt": tiny_opt,
    "gpt_neox": tiny_gpt_neox,
    "phi": tiny_phi,
}

ARCHITECTURES = {
    f"{family} {'tied' if tied else 'untied'}": functools.partial(make, tie_word_embeddings=tied)
    for family, make in FAMILIES.items()
    for tied in (True, False)
}
"""Each family with its head tied to the embeddings and with a head of its own."""
