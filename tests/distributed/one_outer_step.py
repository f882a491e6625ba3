"""Hypergradients of a tiny model, through Betty's engine, in float64; as a script, in each process of a launch.

python one_outer_step.py FOLDER writes FOLDER/CASE-RANK.safetensors for each of ``CASES``.
"""

import sys
from pathlib import Path

import torch
from betty.configs import EngineConfig
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tiny_models import tiny_gpt2, tiny_llama

from problems.methods import build_levels
from reckoning_betty.config import InnerConfig, RunConfig, TrainingConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.task import Question, StoredTasks, Task
from reckoning_betty.distributed.processes import Processes
from reckoning_betty.distributed.sharding import is_sharded, whole
from reckoning_betty.hypergradients.registry import find_method
from reckoning_betty.mended_betty import MendedEngine
from reckoning_betty.models.word_tokenizer import word_tokenizer

STEPS = 3
MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama}
CASES = {
    "unrolled-dual": ("gpt2", "unrolled", {}, {"fast_weights": "dual"}),
    "unrolled-batched": ("llama", "unrolled", {}, {"fast_weights": "batched"}),
    "unrolled-looped": ("gpt2", "unrolled", {}, {"fast_weights": "looped"}),
    "unrolled-checkpoint": ("llama", "unrolled", {}, {"fast_weights": "dual", "checkpoint": True}),
    "unrolled-adamw": ("gpt2", "unrolled", {}, {"optimizer": "adamw", "epsilon": 1e-3}),
    "unrolled-lora": ("gpt2", "unrolled", {}, {"fast_weights": "lora", "lora_rank": 2}),
    "unrolled-part": ("gpt2", "unrolled", {}, {"fast_weights": "dual", "adapt": ["*mlp*", "*ln_f*"]}),
    "truncated": ("gpt2", "truncated", {"last_steps": 2}, {}),
    "first_order": ("llama", "first_order", {}, {}),
    "forward_over_reverse": ("gpt2", "forward_over_reverse", {}, {}),
    "cg": ("gpt2", "cg", {"iterations": 3}, {"proximal": 0.7}),
    "neumann": ("llama", "neumann", {"iterations": 2, "alpha": 0.3}, {"proximal": 0.7}),
}
"""Model, hypergradient method, its options, and those of the inner level."""

SHARDED = [case for case in CASES if case not in ("unrolled-looped", "forward_over_reverse")]
"""Cases that run again with weight matrices of which each process holds a part, as ``sharded-CASE``."""

TASKS = [
    Task(facts=("a is b", "c is d of e"), questions=(Question(text="x a ?", answer="y", hops=1, relevant=(0,)),)),
    Task(
        facts=("g is f of e a", "b c", "d e a"),
        questions=(
            Question(text="x ?", answer="z", hops=1, relevant=(0,)),
            Question(text="x b c ?", answer="y z", hops=1, relevant=(1,)),
        ),
    ),
    Task(facts=("f of g",), questions=(Question(text="x f ?", answer="x y", hops=1, relevant=(0,)),)),
]
"""Of different sizes, and three for two processes, so that a mean of means or a local gradient would be caught."""


def hypergradient(case: str, shard_weights: bool = False) -> dict[str, Tensor]:
    """By name, as it reaches the optimizer; the outer step's losses as ``losses``."""
    model_name, method, options, inner = CASES[case]
    config = RunConfig(
        problem="test",
        knowledge_weight=0.7,
        shard_weights=shard_weights,
        hypergradient=method,
        hypergradient_options=find_method(method)(**options),
        inner=InnerConfig(**{"steps": STEPS, "initial_rate": 0.3} | inner),
        reckoning=TrainingConfig(steps=1, tasks_per_step=len(TASKS), clip_norm=0.0),
    )
    tokenizer = word_tokenizer([*"abcdefg", "is", "of", *"x?yz"])
    torch.manual_seed(0)
    model = MODELS[model_name](len(tokenizer))
    levels = build_levels(
        "reckoning", config, model, StoredTasks(tasks=TASKS, seed=1), TaskEncoder(tokenizer, Prompts())
    )
    with torch.no_grad():  # unequal rates, so that a mix-up of steps or layers shows
        levels.rates.log_rates.add_(0.3 * torch.randn_like(levels.rates.log_rates))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # 0 at first, so that A would have no gradient
                parameter.add_(0.1)
    found: dict[str, Tensor] = {}
    outer = levels.outer

    def keep() -> None:
        for name, parameter in outer.module.named_parameters():
            if parameter.grad is not None:
                assert is_sharded(parameter.grad) == (shard_weights and name.endswith("weight") and parameter.ndim == 2)
                found[name] = whole(parameter.grad).clone().contiguous()
        losses = torch.stack(list(outer.losses.values())) * outer.share
        found["losses"] = outer.processes.sum(losses)

    outer.optimizer_step, outer.scheduler = keep, None
    config = EngineConfig(train_iters=STEPS, valid_step=STEPS, strategy="accelerate")
    MendedEngine(levels.problems, config, levels.dependencies).run()
    return found


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    folder, processes = Path(sys.argv[1]), Processes()
    for case in CASES:
        save_file(hypergradient(case), folder / f"{case}-{processes.index}.safetensors")
    for case in SHARDED:
        save_file(hypergradient(case, True), folder / f"sharded-{case}-{processes.index}.safetensors")


if __name__ == "__main__":
    main()
