"""Load or make a decoder and its tokenizer, ready for twice differentiable fast weights."""

import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from reckoning_betty.config import ModelConfig
from reckoning_betty.errors import UserError
from reckoning_betty.inner.precision import set_precision
from reckoning_betty.models.word_tokenizer import word_tokenizer

logger = logging.getLogger(__name__)

DIFFERENTIABLE_ATTENTION = "eager"


def load_model(
    config: ModelConfig, vocabulary: Sequence[str], seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer that ``config`` asks for.

    Args:
        config: a hub name or folder, or the shape of the small GPT-2.
        vocabulary: the problem's words, for the small GPT-2's tokenizer.
        seed: of the small GPT-2's random weights.

    Raises:
        UserError: no such folder, hub out of reach, not a decoder, no tokenizer.
    """
    if config.name:
        model, tokenizer = load_pretrained(config.name, config.revision, config.trust_remote_code)
    else:
        tokenizer = word_tokenizer(vocabulary)
        model = small_gpt2(config, tokenizer, seed)
    set_precision(model, config.precision)
    return make_twice_differentiable(model), tokenizer


def small_gpt2(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> GPT2LMHeadModel:
    """A GPT-2 from random weights; ReLU, because its derivatives cost least and it learns these tasks as well."""
    torch.manual_seed(seed)
    shape = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=config.context,
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.heads,
        activation_function="relu",
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation=DIFFERENTIABLE_ATTENTION,
    )
    return GPT2LMHeadModel(shape)


def load_pretrained(
    name: str,
    revision: str = "main",
    trust_remote_code: bool = False,
    option: str = "model.name=",
    advice: str = "give the folder of a saved model, or a hub name while the hub is in reach",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A decoder and tokenizer from a folder or the hub, in float32.

    Fast weights need float32: an update of 1e-5 leaves a bfloat16 weight of 0.02 where it was (DESIGN.md section 5).

    Raises:
        UserError: no such folder, hub out of reach, damaged files, not a decoder, not of text alone, weights missing,
            no tokenizer. It names ``option``, with which the user gave ``name``, and says what to give instead.
    """
    _refuse_missing_folder(name)
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        model, loading = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=torch.float32,
            attn_implementation=DIFFERENTIABLE_ATTENTION,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # transformers, tokenizers and safetensors each raise their own, of no common class
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
        raise UserError(
            f"{option}{name} cannot be loaded as a causal language model with its tokenizer ({reason}); {advice}."
        ) from None
    if model.config.get_text_config() is not model.config:
        raise UserError(
            f"{option}{name} is a {type(model).__name__}, which reads more than text, and facts would train its other "
            "parts in vain: give a text-only model of its family."
        )
    if loading["missing_keys"]:  # transformers would leave them random and say so in a warning only
        raise UserError(
            f"{option}{name} holds no weights for {min(loading['missing_keys'])}, so it is damaged or no causal "
            f"language model; {advice}."
        )
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes up an empty one where none was saved
        raise UserError(f"{option}{name}: its tokenizer has no words, so none was saved beside the model; {advice}.")
    if tokenizer.eos_token_id is None:
        raise UserError(f"{option}{name}: its tokenizer has no end-of-sequence token, which has to end every answer.")
    return model, tokenizer


def make_twice_differentiable(model: PreTrainedModel) -> PreTrainedModel:
    """Switch off what gives wrong or no second derivatives (DESIGN.md section 5), with a message where it was on.

    Fused attention has no double backward; per-layer gradient checkpointing recomputes with the wrong fast weights and
    no error; a compiled module has no double backward. Dropout stays off in training and test alike: the model is
    always in evaluation mode.

    Raises:
        UserError: a compiled model, or one whose earlier tokens see later ones.
    """
    if isinstance(model, torch._dynamo.eval_frame.OptimizedModule):
        raise UserError("A compiled model has no second derivative: pass the model itself, without torch.compile.")
    attention = model.config._attn_implementation
    if attention != DIFFERENTIABLE_ATTENTION:
        logger.warning("Attention switched from %s to eager: only eager is twice differentiable.", attention)
        model.set_attn_implementation(DIFFERENTIABLE_ATTENTION)
    if model.is_activation_checkpointing:
        logger.warning("Per-layer gradient checkpointing switched off: it recomputes with the wrong fast weights.")
        model.activation_checkpointing_disable()
    for module in model.modules():
        if hasattr(module, "warn_if_padding_and_no_attention_mask"):
            # it looks into the tokens, which vmap forbids, to warn of padding, which is exact here (data/collate.py)
            module.warn_if_padding_and_no_attention_mask = _no_warning
    model.eval()
    _refuse_later_tokens_seen(model)
    return model


def _no_warning(input_ids: Tensor, attention_mask: Tensor | None) -> None:
    pass


@torch.no_grad()
def _refuse_later_tokens_seen(model: PreTrainedModel) -> None:
    """Padding on the right is exact only if no token sees a later one; encoders loaded as decoders fail this."""
    tokens = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 0]], device=model.device)
    first, second = model(input_ids=tokens, use_cache=False).logits[:, :3]
    if not torch.allclose(first, second, rtol=1e-4, atol=1e-5):
        raise UserError(
            f"{type(model).__name__} is not causal, its earlier tokens see later ones: give a decoder-only model."
        )


@torch.no_grad()
def reads_packed_rows(model: PreTrainedModel) -> bool:
    """Whether positions that begin anew keep a row's tokens from the row before it (``data/packing.py``).

    They do where transformers makes the mask by them; families with a mask or with positions of their own differ.
    """
    rows, packed = torch.tensor([[0, 1, 2], [3, 2, 1]]), torch.tensor([[0, 1, 2, 3, 2, 1]])
    positions = torch.arange(3).repeat(2).unsqueeze(0)
    apart = model(input_ids=rows.to(model.device), use_cache=False).logits
    try:
        together = model(
            input_ids=packed.to(model.device), position_ids=positions.to(model.device), use_cache=False
        ).logits
    except TypeError:  # no such argument
        return False
    return torch.allclose(together, apart.flatten(0, 1).unsqueeze(0), rtol=1e-4, atol=1e-5)


def max_tokens(model: PreTrainedModel) -> int | None:
    """The longest sequence that the model can read, if its config says so.

    Under ``longrope`` (Phi-3 and later) one row above a limit changes the rotary frequencies of all rows padded to its
    length, so rows up to that limit alone keep their answers in any batch.
    """
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        return rope["original_max_position_embeddings"]
    return getattr(config, "max_position_embeddings", None)


def layer_names(model: PreTrainedModel) -> dict[str, str]:
    """The layer l that each parameter belongs to, for inner rates: ``embeddings``, ``layer 0`` ..., ``head``.

    Blocks are the first ``ModuleList`` as long as the config's number of layers; outside of it, tables of embeddings
    (and a head tied to them) are ``embeddings`` and the rest is ``head``.
    """
    depth = model.config.get_text_config().num_hidden_layers
    blocks = [
        name for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    layers = {}
    for name, parameter in model.named_parameters():
        if blocks and name.startswith(f"{blocks[0]}."):
            layers[name] = f"layer {name.removeprefix(f'{blocks[0]}.').split('.')[0]}"
        else:
            layers[name] = "embeddings" if id(parameter) in embeddings else "head"
    return layers


def adapted_names(model: PreTrainedModel, patterns: Sequence[str] = ("*",), top_layers: int = 0) -> list[str]:
    """The parameters that the inner level moves: trainable ones that fit a pattern, of the last layers.

    Args:
        model: any decoder.
        patterns: of parameter names, as a shell matches file names.
        top_layers: only parameters of the last so many layers; 0 for all layers, embeddings and head.

    Raises:
        UserError: a pattern that fits nothing, or more layers than there are.
    """
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for pattern in patterns:
        if not fnmatch.filter(trainable, pattern):
            example = trainable[len(trainable) // 2]
            raise UserError(f"inner.adapt: no parameter fits '{pattern}'; names look like {example}, and * fits any.")
    names = [name for name in trainable if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if not top_layers:
        return names
    top, layers = names_of_top_layers(model, top_layers), layer_names(model)
    names = [name for name in names if layers[name] in top]
    if not names:
        raise UserError(f"inner.top_layers={top_layers} and inner.adapt={list(patterns)} leave nothing to adapt.")
    return names


def names_of_top_layers(model: PreTrainedModel, top_layers: int) -> set[str]:
    """The last so many layers, as ``layer_names`` calls them.

    Raises:
        UserError: there are fewer.
    """
    depth = model.config.get_text_config().num_hidden_layers
    if top_layers > depth:
        raise UserError(f"inner.top_layers={top_layers} is not possible: the model has {depth} layers.")
    return {f"layer {index}" for index in range(depth - top_layers, depth)}


def _refuse_missing_folder(name: str) -> None:
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not Path(name).is_dir():
        raise UserError(f"model.name={name}: there is no such folder; give the folder of a saved model or a hub name.")
