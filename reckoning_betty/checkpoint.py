"""Checkpoints: a model folder that plain ``AutoModelForCausalLM.from_pretrained`` loads, plus inner rates and a note.

Everything is safetensors or JSON, so loading executes no code, and a folder appears whole or not at all.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from reckoning_betty.config import Method, has_inner_level
from reckoning_betty.data.collate import Prompts
from reckoning_betty.errors import UserError
from reckoning_betty.inner.losses import Reduction
from reckoning_betty.inner.optimizers import GradientDescent, InnerOptimizer, optimizer_of
from reckoning_betty.inner.precision import Precision, precision_of, set_precision
from reckoning_betty.inner.rates import GRANULARITIES, InnerRates
from reckoning_betty.models import adapters
from reckoning_betty.models.causal_lm import layer_names, load_pretrained, make_twice_differentiable

RATES_FILE = "inner_rates.safetensors"
NOTE_FILE = "reckoning.json"


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """A trained method, ready to answer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    method: str
    problem: str
    prompts: Prompts
    rates: InnerRates | None
    """None for methods without an inner level."""
    optimizer: InnerOptimizer = field(default_factory=GradientDescent)
    """The inner one."""
    facts_per_pass: int = 0
    """``inner.facts_per_pass`` in training, whose memory it bounded."""
    reduction: Reduction = "mean"
    """``inner.reduction`` in training."""
    note: dict[str, Any] = field(default_factory=dict)
    """What else is known: seed, outer step, validation."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, weights: dict[str, Tensor] | None = None) -> None:
    """Write ``folder`` anew; whoever looks sees the old one or the new one.

    Args:
        weights: the model's state dict, where the model itself does not hold it whole.
    """

    def write(new: Path) -> None:
        own = checkpoint.model.state_dict() if weights is None else weights
        if adapters.has_adapters(checkpoint.model):
            (new / adapters.FOLDER).mkdir()
            own = adapters.save_adapters(checkpoint.model, own, new / adapters.FOLDER)
        checkpoint.model.save_pretrained(new, state_dict=own)
        checkpoint.tokenizer.save_pretrained(new)
        note = checkpoint.note | {
            "method": checkpoint.method,
            "problem": checkpoint.problem,
            "prompts": asdict(checkpoint.prompts),
            "precision": precision_of(checkpoint.model),
        }
        if checkpoint.rates is not None:
            rates = checkpoint.rates
            save_file({"log_rates": rates.log_rates.detach().cpu().contiguous()}, new / RATES_FILE)
            note["inner"] = {
                "steps": rates.num_steps,
                "rates": rates.granularity,
                "rows": rates.row_names,
                "adapted": rates.names,
                "optimizer": checkpoint.optimizer.describe(),
                "facts_per_pass": checkpoint.facts_per_pass,
                "reduction": checkpoint.reduction,
            }
        (new / NOTE_FILE).write_text(json.dumps(note, indent=2), encoding="utf-8")

    replace_folder(folder, write)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read what ``save_checkpoint`` wrote.

    Raises:
        UserError: no folder, a file missing or damaged, or one from another program.
    """
    recover_folder(folder)
    note_file = folder / NOTE_FILE
    if not note_file.is_file():
        below = folder / "checkpoint"
        hint = f"did you mean {below}?" if (below / NOTE_FILE).is_file() else "give the 'checkpoint' folder of a run."
        raise UserError(f"--checkpoint {folder} holds no {NOTE_FILE}, so it is no checkpoint of this program: {hint}")
    try:
        note = json.loads(note_file.read_text(encoding="utf-8"))
        prompts = Prompts(**note.pop("prompts"))
        method, problem, inner = note.pop("method"), note.pop("problem"), note.pop("inner", None)
        precision = note.pop("precision", "float32")
        _check_note(method, inner, note)
        if precision not in get_args(Precision):
            raise ValueError(f"precision is {precision!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{note_file} is damaged ({error}): take another checkpoint, or train again.") from None
    model, tokenizer = load_pretrained(
        str(folder), option="--checkpoint ", advice="take another checkpoint, or train again"
    )
    if (folder / adapters.FOLDER).is_dir():
        adapters.load_adapters(model, folder / adapters.FOLDER)
    set_precision(model, precision)
    rates = None if inner is None else _load_rates(folder / RATES_FILE, inner, model)
    return Checkpoint(
        model=make_twice_differentiable(model),
        tokenizer=tokenizer,
        method=method,
        problem=problem,
        prompts=prompts,
        rates=rates,
        optimizer=GradientDescent() if inner is None else optimizer_of(inner.get("optimizer", {"name": "sgd"})),
        facts_per_pass=0 if inner is None else inner.get("facts_per_pass", 0),
        reduction="mean" if inner is None else inner.get("reduction", "mean"),
        note=note,
    )


def _check_note(method: str, inner: dict[str, Any] | None, note: dict[str, Any]) -> None:
    """Raise ValueError or KeyError for what could not be used later on."""
    if method not in get_args(Method) or has_inner_level(method) != (inner is not None):
        raise ValueError(f"method is {method!r} and inner is {inner}")
    if inner is not None:
        fits = isinstance(inner["steps"], int) and inner["steps"] >= 1 and isinstance(inner["rows"], list)
        if not fits or inner["rates"] not in GRANULARITIES:
            raise ValueError(f"inner is {inner}")
        optimizer_of(inner.get("optimizer", {"name": "sgd"}))
        at_a_time = inner.get("facts_per_pass", 0)
        if not isinstance(at_a_time, int) or at_a_time < 0:
            raise ValueError(f"facts_per_pass is {at_a_time!r}")
        if inner.get("reduction", "mean") not in get_args(Reduction):
            raise ValueError(f"reduction is {inner['reduction']!r}")
    if not isinstance(note.get("data", {}), dict):
        raise ValueError(f"data is {note['data']!r}")
    cap = note.get("max_answer_tokens", 1)
    if not isinstance(cap, int) or cap < 1:
        raise ValueError(f"max_answer_tokens is {cap!r}")


def _load_rates(file: Path, inner: dict[str, Any], model: PreTrainedModel) -> InnerRates:
    layers = layer_names(model)
    names = inner.get("adapted", list(layers))
    if not set(names) <= set(layers):
        raise UserError(f"{file} does not fit the model beside it: the two come from different runs.")
    rates = InnerRates({name: layers[name] for name in names}, inner["steps"], 1.0, inner["rates"])
    try:
        log_rates = load_file(file)["log_rates"]
    except Exception as error:  # safetensors raises its own classes, none of which it exports as stable
        raise UserError(f"{file} is missing or damaged ({error}): take another checkpoint, or train again.") from None
    if rates.row_names != inner["rows"] or log_rates.shape != rates.log_rates.shape:
        raise UserError(f"{file} does not fit the model beside it: the two come from different runs.")
    with torch.no_grad():
        rates.log_rates.copy_(log_rates)
    return rates


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Make ``folder`` what ``write`` writes. A kill in between leaves the old or the new one to ``recover_folder``."""
    recover_folder(folder)
    new, old = _beside(folder, "new"), _beside(folder, "old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    write(new)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Undo a replacement that was killed between its two renames: the old folder comes back."""
    old = _beside(folder, "old")
    if old.exists():
        if folder.exists():
            shutil.rmtree(old)
        else:
            os.replace(old, folder)


def replace_file(file: Path, write: Callable[[Path], None]) -> None:
    """Make ``file`` what ``write`` writes, atomically and flushed to disk."""
    new = _beside(file, "new")
    write(new)
    with open(new, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(new, file)


def _beside(path: Path, suffix: str) -> Path:
    path = Path(os.path.abspath(path))  # '.' has no name
    return path.with_name(f".{path.name}.{suffix}")
