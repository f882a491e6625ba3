"""A word-level tokenizer made from a problem's vocabulary, as a regular Hugging Face fast tokenizer."""

import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
from transformers import PreTrainedTokenizerFast

WORD = r"\w+(?:-\w+)*|'s|[^\w\s]"
"""A word (``mother-in-law`` is one), a possessive, or a punctuation mark."""


def words(text: str) -> list[str]:
    """The words that the tokenizer sees in ``text``."""
    return re.findall(WORD, text)


def word_tokenizer(vocabulary: Iterable[str]) -> PreTrainedTokenizerFast:
    """One id per word, in the order given, after padding, end and unknown; other words become the unknown token."""
    words = ["<pad>", "<end>", "<unknown>", *dict.fromkeys(vocabulary)]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = Sequence([WhitespaceSplit(), Split(Regex(WORD), behavior="isolated")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>"
    )
