"""LoRA adapters through PEFT: small matrices beside a frozen decoder, which both levels then train instead of it."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from reckoning_betty.errors import UserError
from reckoning_betty.models.causal_lm import layer_names, names_of_top_layers

FOLDER = "adapter"
"""Where a checkpoint holds them, in PEFT's own format."""


def add_adapters(
    model: PreTrainedModel,
    rank: int,
    alpha: float,
    targets: Sequence[str],
    rank_stabilised: bool = False,
    top_layers: int = 0,
) -> None:
    """Put adapters B A of ``rank``, scaled by alpha / rank, beside the target layers, and freeze everything else.

    Args:
        model: changed in place; it computes what it did before, because B starts at 0.
        rank: r; A is [r, in] and B [out, r].
        alpha: see above.
        targets: ends of layer names, or ``all-linear`` alone for every linear layer but the head.
        rank_stabilised: scale by alpha / sqrt(rank) instead (Kalajdzievski, arXiv 2312.03732).
        top_layers: only the last so many layers of the decoder; 0 for all.

    Raises:
        UserError: no layer has such a name, or the decoder has fewer layers.
    """
    top, layers = names_of_top_layers(model, top_layers), layer_names(model)
    below = {name.rpartition(".")[0] for name, layer in layers.items() if top_layers and layer not in top}
    all_linear = list(targets) == ["all-linear"]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="all-linear" if all_linear else list(targets),
        lora_dropout=0.0,
        use_rslora=rank_stabilised,
        exclude_modules=sorted(below) or None,
        task_type="CAUSAL_LM",
    )
    try:
        _inject(model, config)
    except ValueError as error:
        raise UserError(
            f"inner.lora_targets={list(targets)} fits no layer of this model ({str(error).split('.')[0]}): "
            "give ends of layer names, such as c_attn or q_proj, or all-linear."
        ) from None


def save_adapters(model: PreTrainedModel, weights: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Write the adapters to ``folder`` in PEFT's format; returns the ``weights`` of the model without them."""
    model.peft_config["default"].save_pretrained(str(folder))
    adapters = {  # under the names that PEFT gives them in a model of its own class
        f"base_model.model.{name.removeprefix('base_model.model.')}": tensor.detach().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(model, state_dict=weights).items()
    }
    save_file(adapters, folder / SAFETENSORS_WEIGHTS_NAME)
    return {name.replace(".base_layer.", "."): tensor for name, tensor in weights.items() if ".lora_" not in name}


def load_adapters(model: PreTrainedModel, folder: Path) -> None:
    """Put what ``save_adapters`` wrote into a model without adapters.

    Raises:
        UserError: files missing, damaged, or of another model.
    """
    try:
        _inject(model, LoraConfig.from_pretrained(str(folder)))
        weights = load_file(folder / SAFETENSORS_WEIGHTS_NAME)
        weights = {name.removeprefix("base_model.model."): tensor for name, tensor in weights.items()}
        result = set_peft_model_state_dict(model, weights)
        missing = [name for name in result.missing_keys if ".lora_" in name]
    except Exception as error:  # PEFT, safetensors and JSON each raise their own, of no common class
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder} is missing or damaged ({reason}): take another checkpoint, or train again."
        ) from None
    if missing or result.unexpected_keys:
        raise UserError(f"{folder} does not fit the model beside it: the two come from different runs.")


def has_adapters(model: PreTrainedModel) -> bool:
    """Whether ``add_adapters`` or ``load_adapters`` was here."""
    return hasattr(model, "peft_config")


def _inject(model: PreTrainedModel, config: LoraConfig) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT says that it adapts its options to Conv1D, which is what is wanted
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    model.eval()
