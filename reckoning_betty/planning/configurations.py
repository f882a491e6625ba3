"""The configurations on which plans are held against measurements: every form, method kind and two architectures."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transformers import GPT2Config, LlamaConfig, PreTrainedConfig

from reckoning_betty.config import InnerConfig, RunConfig, TrainingConfig
from reckoning_betty.hypergradients.registry import find_method
from reckoning_betty.planning.batch import BatchShape
from reckoning_betty.planning.outer_step import OuterStep

SHORT = BatchShape(facts=4, fact_tokens=33)

LONG = BatchShape(facts=8, fact_tokens=128)
"""A knowledge set of 1,024 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A row of the check.

    Args:
        tasks: B.
        vocabulary: small unless the model is GPT-2 itself, so that the layers are most of the memory.
        inner: options of ``InnerConfig``.
        outer_steps: how many are measured.
    """

    name: str
    architecture: str
    method: str = "unrolled"
    width: int = 256
    layers: int = 2
    vocabulary: int = 2000
    tasks: int = 4
    batch: BatchShape = SHORT
    inner: dict[str, Any] = field(default_factory=dict)
    outer_steps: int = 2

    def step(self, build_levels: Callable[..., Any]) -> OuterStep:
        """What is planned and measured."""
        return self._step(build_levels, self.width, self.layers, self.vocabulary, self.tasks, self.batch)

    def tiny_step(self, build_levels: Callable[..., Any]) -> OuterStep:
        """The same on a model that takes no memory: what is imported at the first use comes before the measurement."""
        return self._step(build_levels, 16, 1, 50, min(2, self.tasks), BatchShape(facts=2, fact_tokens=4))

    def _step(
        self, build_levels: Callable[..., Any], width: int, layers: int, vocabulary: int, tasks: int, batch: BatchShape
    ) -> OuterStep:
        config = RunConfig(
            problem="check",
            objective="single",
            hypergradient=self.method,
            hypergradient_options=find_method(self.method)(),
            inner=InnerConfig(**({"steps": 3} | self.inner)),
            reckoning=TrainingConfig(tasks_per_step=tasks),
        )
        decoder = DECODERS[self.architecture](width, layers, vocabulary)
        return OuterStep(config=config, decoder=decoder, batch=batch, build_levels=build_levels)


def gpt2(width: int, layers: int, vocabulary: int) -> PreTrainedConfig:
    """GPT-2's shape, its context of 1,024 included."""
    return GPT2Config(
        n_embd=width, n_layer=layers, n_head=max(1, width // 64), vocab_size=vocabulary, bos_token_id=0, eos_token_id=0
    )


def llama(width: int, layers: int, vocabulary: int) -> PreTrainedConfig:
    """Llama's: grouped queries, gated feed-forward blocks, a head of its own."""
    heads = max(2, width // 64)
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        vocab_size=vocabulary,
        bos_token_id=0,
        eos_token_id=0,
    )


DECODERS = {"gpt2": gpt2, "llama": llama}

CONFIGURATIONS = [
    Configuration(name="dual", architecture="gpt2", inner={"fast_weights": "dual"}),
    Configuration(name="dual, checkpoint", architecture="gpt2", inner={"fast_weights": "dual", "checkpoint": True}),
    Configuration(name="batched", architecture="gpt2", inner={"fast_weights": "batched"}),
    Configuration(
        name="batched, AdamW, checkpoint",
        architecture="gpt2",
        inner={"fast_weights": "batched", "optimizer": "adamw", "checkpoint": True},
    ),
    Configuration(name="looped", architecture="gpt2", tasks=2, inner={"fast_weights": "looped"}),
    Configuration(name="lora", architecture="gpt2", tasks=8, inner={"fast_weights": "lora"}),
    Configuration(name="truncated", architecture="gpt2", method="truncated"),
    Configuration(name="first order", architecture="gpt2", method="first_order"),
    Configuration(name="forward over reverse", architecture="gpt2", method="forward_over_reverse"),
    Configuration(name="neumann", architecture="gpt2", method="neumann", tasks=2, inner={"proximal": 1.0}),
    Configuration(
        name="1,024 tokens, dual, checkpoint",
        architecture="gpt2",
        width=512,
        tasks=1,
        batch=LONG,
        inner={"fast_weights": "dual", "checkpoint": True},
    ),
    Configuration(name="dual", architecture="llama", inner={"fast_weights": "dual"}),
    Configuration(
        name="batched, checkpoint", architecture="llama", inner={"fast_weights": "batched", "checkpoint": True}
    ),
    Configuration(
        name="lora, AdamW, truncated, checkpoint",
        architecture="llama",
        method="truncated",
        tasks=8,
        inner={"fast_weights": "lora", "optimizer": "adamw", "checkpoint": True},
    ),
    Configuration(name="forward over reverse", architecture="llama", method="forward_over_reverse"),
    Configuration(name="768 wide, first order", architecture="llama", method="first_order", width=768, tasks=2),
    Configuration(name="1,024 tokens", architecture="llama", tasks=1, batch=LONG),
]

GPT2_SMALL = [
    Configuration(
        name=f"GPT-2 small, 1,024 tokens{', checkpoint' if checkpoint else ''}",
        architecture="gpt2",
        width=768,
        layers=12,
        vocabulary=50257,
        tasks=1,
        batch=LONG,
        inner={"steps": 4, "checkpoint": checkpoint},
        outer_steps=3,
    )
    for checkpoint in (True, False)
]
"""The paper's model and N with all parameters moving, from random weights; 10 to 14 GiB."""
