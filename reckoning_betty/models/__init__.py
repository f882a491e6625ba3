"""Decoders and tokenizers: loading any Hugging Face causal language model, and the small one made from scratch."""
