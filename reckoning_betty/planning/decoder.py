"""A decoder's shape, without its weights."""

from collections.abc import Sequence

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from reckoning_betty.config import ModelConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.errors import UserError
from reckoning_betty.models.causal_lm import DIFFERENTIABLE_ATTENTION, make_twice_differentiable, small_gpt2
from reckoning_betty.models.word_tokenizer import word_tokenizer


def read_decoder(config: ModelConfig, vocabulary: Sequence[str]) -> PreTrainedConfig:
    """The config of the model that ``config`` names, or of the small GPT-2 over ``vocabulary``.

    Raises:
        UserError: no such folder, hub out of reach, not a decoder.
    """
    if not config.name:
        with torch.device("meta"):
            return small_gpt2(config, word_tokenizer(vocabulary), seed=0).config
    try:
        decoder = AutoConfig.from_pretrained(
            config.name, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    except Exception as error:  # transformers and huggingface_hub each raise their own, of no common class
        raise UserError(
            f"--model {config.name} has no config that can be read ({_reason(error)}); give a folder with a "
            "config.json, or a hub name while the hub is in reach."
        ) from None
    if type(decoder) not in AutoModelForCausalLM._model_mapping and not config.trust_remote_code:
        raise UserError(f"--model {config.name} is a {decoder.model_type}, no decoder: give a causal language model.")
    return decoder


def read_encoder(config: ModelConfig, vocabulary: Sequence[str], prompts: Prompts) -> TaskEncoder:
    """Tasks into tokens, with the tokenizer that ``config`` names.

    Raises:
        UserError: there is none.
    """
    if not config.name:
        return TaskEncoder(word_tokenizer(vocabulary), prompts)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            config.name, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
        reason = (
            "it has no words" if len(tokenizer) <= len(tokenizer.all_special_ids) else ""
        )  # made up by transformers
    except Exception as error:  # as above
        reason = _reason(error)
    if reason:
        raise UserError(
            f"--model {config.name} has no tokenizer to measure the facts with ({reason}); save one beside the config, "
            "or give the sizes: --facts 8 --fact-tokens 128."
        )
    return TaskEncoder(tokenizer, prompts)


def make_decoder(decoder: PreTrainedConfig, device: torch.device | str) -> PreTrainedModel:
    """A model of that shape from random weights, in float32; on the meta device without any."""
    decoder._attn_implementation = DIFFERENTIABLE_ATTENTION
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            decoder, attn_implementation=DIFFERENTIABLE_ATTENTION, dtype=torch.float32
        )
    return make_twice_differentiable(model)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).split(". ")[0].rstrip(".")[:200]
