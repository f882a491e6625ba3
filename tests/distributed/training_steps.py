"""Hypergradients and losses of a tiny model, through Betty's engine; as a script, in each process of a launch.

python training_steps.py FOLDER STRATEGY writes FOLDER/CASE-RANK.safetensors for each case of the strategy.
"""

import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
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
from reckoning_betty.distributed.zero import ZeroOptimizer, leave_models_whole
from reckoning_betty.hypergradients.registry import find_method
from reckoning_betty.mended_betty import MendedEngine
from reckoning_betty.models.word_tokenizer import word_tokenizer

MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama}
CASES = {
    "unrolled-dual": ("gpt2", "unrolled", {}, {"fast_weights": "dual"}),
    "unrolled-batched": ("llama", "unrolled", {}, {"fast_weights": "batched"}),
    "unrolled-looped": ("gpt2", "unrolled", {}, {"fast_weights": "looped"}),
    "unrolled-checkpoint": ("llama", "unrolled", {}, {"fast_weights": "dual", "checkpoint": True}),
    "unrolled-adamw": ("gpt2", "unrolled", {}, {"optimizer": "adamw", "epsilon": 1e-3, "initial_rate": 0.02}),
    "unrolled-lora": (
        "gpt2",
        "unrolled",
        {},
        {"fast_weights": "lora", "lora_rank": 2, "lora_alpha": 2.0, "initial_rate": 0.1},
    ),
    "unrolled-part": ("gpt2", "unrolled", {}, {"fast_weights": "dual", "adapt": ["*mlp*", "*ln_f*"]}),
    "muon": ("gpt2", "unrolled", {}, {"fast_weights": "dual"}),
    "truncated": ("gpt2", "truncated", {"last_steps": 2}, {}),
    "first_order": ("llama", "first_order", {}, {}),
    "forward_over_reverse": ("gpt2", "forward_over_reverse", {}, {}),
    "cg": ("gpt2", "cg", {"iterations": 2}, {"proximal": 2.0}),
    "neumann": ("llama", "neumann", {"iterations": 2, "alpha": 0.3}, {"proximal": 0.7}),
    "in_context": ("gpt2", None, {}, {}),
}
"""Model, hypergradient method (None for the in-context baseline), its options, and those of the inner level. The
outer optimizer is AdamW, but for the case ``muon``."""

SHARDED = [case for case in CASES if case not in ("unrolled-looped", "muon", "forward_over_reverse")]
"""Cases for weight matrices of which each process holds a part."""

ZERO = ["unrolled-dual", "unrolled-lora", "truncated", "first_order", "cg", "in_context"]
"""Cases for DeepSpeed, whose wrapper computes in float32."""

LONG = ("unrolled-dual", "muon", "truncated", "first_order", "cg", "in_context")
"""Cases that train for ten outer steps; the others for one."""

CASES_OF = {"whole": list(CASES), "sharded": SHARDED, "fsdp2": SHARDED, "zero1": ZERO, "zero2": ZERO, "zero3": ZERO}

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
    Task(facts=("a of c", "g is e"), questions=(Question(text="x g c ?", answer="z", hops=1, relevant=(1,)),)),
    Task(facts=("b is g of a",), questions=(Question(text="x b ?", answer="y", hops=1, relevant=(0,)),)),
]
"""Of different sizes, and five for two processes, so that a mean of means or a local gradient would be caught."""


def train(case: str, strategy: str = "whole", accumulation_steps: int = 1) -> dict[str, Tensor]:
    """The first hypergradient by name, as it reaches the optimizer; the losses of all outer steps as ``losses``."""
    model_name, method, options, inner = CASES[case]
    steps = 10 if case in LONG else 1
    name = "in_context" if method is None else "reckoning"
    training = {
        "optimizer": "muon" if case == "muon" else "adamw",
        "tasks_per_step": len(TASKS),
        "accumulation_steps": accumulation_steps,
        "clip_norm": 0.0,
    }
    config = RunConfig(
        problem="test",
        method=name,
        knowledge_weight=0.7,
        shard_weights=strategy == "sharded",
        hypergradient=method or "unrolled",
        hypergradient_options=find_method(method or "unrolled")(**options),
        inner=InnerConfig(**{"steps": 3, "initial_rate": 0.3} | inner),
        **{name: TrainingConfig(steps=steps, warmup_steps=0, learning_rate=1e-3, **training)},
    )
    tokenizer = word_tokenizer([*"abcdefg", "is", "of", *"x?yz"])
    torch.manual_seed(0)
    model = MODELS[model_name](len(tokenizer))
    levels = build_levels(name, config, model, StoredTasks(tasks=TASKS, seed=1), TaskEncoder(tokenizer, Prompts()))
    outer, losses = levels.outer, []
    with torch.no_grad():
        if levels.rates is not None:  # unequal rates, so that a mix-up of steps or layers shows
            levels.rates.log_rates.add_(0.3 * torch.randn_like(levels.rates.log_rates))
        for key, parameter in outer.module.named_parameters():
            if "lora_B" in key:  # 0 at first, so that A would have no gradient
                parameter.add_(0.1)
    found: dict[str, Tensor] = {}
    step = outer.optimizer_step

    def keep(*given, **options) -> None:
        terms = outer.processes.sum(torch.stack(list(outer.step_losses.values())))
        losses.append(terms)
        if not found:
            for key, parameter in outer.module.named_parameters():
                if parameter.grad is not None:
                    assert is_sharded(parameter.grad) == is_sharded(parameter)
                    found[key] = whole(parameter.grad).clone().contiguous()
        step(*given, **options)
        if len(losses) == 1 and isinstance(outer.optimizer, ZeroOptimizer):
            # AdamW's mean is 0.1 g after one step: what DeepSpeed was given, and not what it should have been
            means = outer.optimizer.state_dict()["state"]
            parameters = [p for group in given_order for p in group]
            names = {id(p): key for key, p in outer.module.named_parameters()}
            found.update({names[id(p)]: means[index]["exp_avg"] / 0.1 for index, p in enumerate(parameters)})

    given_order = [group["params"] for group in outer.optimizer.param_groups]
    outer.optimizer_step = keep
    iterations = steps * levels.iterations_per_step
    engine = EngineConfig(train_iters=iterations, valid_step=iterations, strategy="accelerate")
    MendedEngine(levels.problems, engine, levels.dependencies, accelerator=accelerator()).run()
    return found | {"losses": torch.stack(losses)}


def accelerator() -> Accelerator:
    made = Accelerator()
    leave_models_whole()
    return made


def main() -> None:
    folder, strategy, processes = Path(sys.argv[1]), sys.argv[2], Processes()
    torch.set_default_dtype(torch.float32 if strategy.startswith("zero") else torch.float64)
    torch.set_num_threads(1)
    if strategy == "fsdp2":
        os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}  # as accelerate launch does
    for case in CASES_OF[strategy]:
        save_file(train(case, strategy), folder / f"{case}-{processes.index}.safetensors")
        if strategy == "whole":
            save_file(train(case, strategy, 2), folder / f"{case}-accumulated-{processes.index}.safetensors")


if __name__ == "__main__":
    main()
