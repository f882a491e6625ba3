"""A checkpoint made ready to answer, and the facts and words that people give it."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from reckoning_betty.checkpoint import Checkpoint
from reckoning_betty.config import EvaluationConfig
from reckoning_betty.data.collate import TaskEncoder
from reckoning_betty.errors import UserError
from reckoning_betty.evaluation import Answerer
from reckoning_betty.models.causal_lm import max_tokens
from reckoning_betty.models.word_tokenizer import words
from reckoning_betty.threads import choose_threads


def answerer_of(checkpoint: Checkpoint, device: torch.device, inner_steps: int | None = None) -> Answerer:
    """Answer as the checkpoint's method does, with as many inner steps as it was trained unless told otherwise.

    Answers may be as long as they could be in its run.

    Raises:
        UserError: a number of inner steps below 1, or for a method that has none.
    """
    if inner_steps is not None and (checkpoint.rates is None or inner_steps < 1):
        reason = "it must be at least 1" if checkpoint.rates else f"the method {checkpoint.method} has no inner level"
        raise UserError(f"--inner-steps {inner_steps} is not possible: {reason}; leave it out.")
    model = checkpoint.model.to(device)
    torch.set_num_threads(choose_threads(sum(parameter.numel() for parameter in model.parameters())))
    if checkpoint.rates is not None:
        checkpoint.rates.to(device)
    return Answerer(
        method=checkpoint.method,
        model=model,
        rates=checkpoint.rates,
        optimizer=checkpoint.optimizer,
        facts_per_pass=checkpoint.facts_per_pass,
        reduction=checkpoint.reduction,
        encoder=TaskEncoder(checkpoint.tokenizer, checkpoint.prompts, device, max_tokens(model)),
        inner_steps=inner_steps or (checkpoint.rates.num_steps if checkpoint.rates else 0),
        max_answer_tokens=checkpoint.note.get("max_answer_tokens", EvaluationConfig().max_answer_tokens),
    )


def read_facts(file: Path) -> tuple[str, ...]:
    """One fact a line; empty lines are passed over.

    Raises:
        UserError: no such file, not text, or no fact in it.
    """
    if not file.is_file():
        raise UserError(
            f"--facts {file} is {'a folder' if file.is_dir() else 'not there'}; give a text file with one fact a line."
        )
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"--facts {file} is not a text file in UTF-8; give one with one fact a line.") from None
    facts = tuple(line.strip() for line in lines if line.strip())
    if not facts:
        raise UserError(f"--facts {file} holds no facts; write one a line.")
    return facts


def unknown_words(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[str]:
    """Words that the tokenizer maps to its unknown token, in the order in which they come; none for byte-level ones."""
    if tokenizer.unk_token_id is None:
        return []
    candidates = dict.fromkeys(word for text in texts for word in words(text))
    return [w for w in candidates if tokenizer.unk_token_id in tokenizer(w, add_special_tokens=False)["input_ids"]]
