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


def tiny_qwen2(vocabulary: int, **options):
    """Biases of queries, keys and values alone."""
    return _seeded(transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**_llama_like(vocabulary) | options))


def tiny_qwen3(vocabulary: int, **options):
    """Norms of queries and keys; heads wider than width / heads."""
    return _seeded(
        transformers.Qwen3ForCausalLM, transformers.Qwen3Config(**_llama_like(vocabulary) | {"head_dim": 6} | options)
    )


def tiny_gemma(vocabulary: int, **options):
    """Scaled embeddings, norms by 1 + w, heads wider than width / heads."""
    shape = _llama_like(vocabulary) | {"head_dim": 6, "pad_token_id": 0}
    return _seeded(transformers.GemmaForCausalLM, transformers.GemmaConfig(**shape | options))


def tiny_gemma2(vocabulary: int, **options):
    """As Gemma, with four norms a layer, one layer with a window, and soft caps, here so low that they bend."""
    shape = _llama_like(vocabulary, 3) | {
        "head_dim": 6,
        "query_pre_attn_scalar": 6,
        "layer_types": ["sliding_attention", "full_attention"],
        "attn_logit_softcapping": 0.7,
        "final_logit_softcapping": 1.5,
        "pad_token_id": 0,
    }
    return _seeded(transformers.Gemma2ForCausalLM, transformers.Gemma2Config(**shape | options))


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


def tiny_phi3(vocabulary: int, **options):
    """One matrix for queries, keys and values, and one for the MLP's gate and values."""
    shape = _llama_like(vocabulary) | {"pad_token_id": 0}
    return _seeded(transformers.Phi3ForCausalLM, transformers.Phi3Config(**shape | options))


LONGROPE = {
    "original_max_position_embeddings": 32,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "long_factor": [1.1, 2.0],
        "short_factor": [1.0, 1.5],
    },
}
"""Rotary frequencies that change for the whole batch once a row is longer than 32 tokens."""


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
    "qwen2": tiny_qwen2,
    "qwen3": tiny_qwen3,
    "gemma": tiny_gemma,
    "gemma2": tiny_gemma2,
    "gemma3": tiny_gemma3,
    "opt": tiny_opt,
    "gpt_neox": tiny_gpt_neox,
    "phi": tiny_phi,
    "phi3": tiny_phi3,
}

ARCHITECTURES = {
    f"{family} {'tied' if tied else 'untied'}": functools.partial(make, tie_word_embeddings=tied)
    for family, make in FAMILIES.items()
    for tied in (True, False)
}
"""Each family with its head tied to the embeddings and with a head of its own."""

VARIANTS = {
    "llama with biases": functools.partial(tiny_llama, attention_bias=True, mlp_bias=True),
    "opt with projections": functools.partial(tiny_opt, word_embed_proj_dim=6, do_layer_norm_before=False),
    "gpt_neox in sequence": functools.partial(tiny_gpt_neox, use_parallel_residual=False, attention_bias=False),
    "phi with norms": functools.partial(tiny_phi, qk_layernorm=True),
    "qwen2 with a window": functools.partial(
        tiny_qwen2, use_sliding_window=True, sliding_window=3, max_window_layers=1
    ),
    "phi3 with longrope": functools.partial(tiny_phi3, **LONGROPE),
}
"""What the families' configs can switch, and some of their models do (OPT-350m, Phi-3.5)."""
