"""Training with products in bfloat16 beside training in float32, and how people turn it on."""

import pytest
import torch
from betty.configs import EngineConfig

from problems.methods import build_levels
from reckoning_betty.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from reckoning_betty.config import InnerConfig, ModelConfig, RunConfig, TrainingConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.task import StoredTasks
from reckoning_betty.distributed.mixed_precision import with_launched_precision
from reckoning_betty.errors import UserError
from reckoning_betty.inner.precision import precision_of
from reckoning_betty.mended_betty import MendedEngine
from reckoning_betty.models.causal_lm import load_model

WORDS = [*"abcdefg", "is", "of", *"x?yz"]
STEPS, INNER_STEPS = 60, 2


def trained(method, precision, tasks):
    """The outer losses of a short training, and its outer level."""
    config = RunConfig(
        problem="test",
        model=ModelConfig(width=32, heads=2, context=32, precision=precision),
        inner=InnerConfig(steps=INNER_STEPS, initial_rate=0.1),
        reckoning=TrainingConfig(steps=STEPS, tasks_per_step=2, learning_rate=3e-3, warmup_steps=5),
        in_context=TrainingConfig(steps=STEPS, tasks_per_step=2, learning_rate=3e-3, warmup_steps=5),
    )
    model, tokenizer = load_model(config.model, WORDS, seed=0)
    levels = build_levels(method, config, model, StoredTasks(tasks=tasks, seed=1), TaskEncoder(tokenizer, Prompts()))
    losses = []

    class Engine(MendedEngine):
        def iteration_end(self):
            if self.global_step % levels.iterations_per_step == 0:
                losses.append(sum(loss.item() for loss in levels.outer.losses.values()))

    options = EngineConfig(train_iters=STEPS * levels.iterations_per_step, valid_step=10**9, strategy="accelerate")
    Engine(levels.problems, options, levels.dependencies).run()
    return losses, levels


@pytest.mark.parametrize("method", ["reckoning", "in_context"])
def test_losses_stay_close_to_float32(method, ragged_tasks):
    expected, _ = trained(method, "float32", ragged_tasks)
    found, levels = trained(method, "bfloat16", ragged_tasks)
    assert expected[-1] < 0.5 * expected[0]  # it learns
    assert found != expected
    gaps = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    print(f"{method}: {expected[0]:.3f} to {expected[-1]:.3f}, largest gap {max(gaps):.4f}, last {gaps[-1]:.4f}")
    assert max(gaps) < 0.05 * expected[0]
    parameters = list(levels.outer.module.parameters())
    held = [*parameters, *(parameter.grad for parameter in parameters if parameter.grad is not None)]
    for state in levels.outer.optimizer.state_dict()["state"].values():
        held += [tensor for tensor in state.values() if isinstance(tensor, torch.Tensor)]
    assert len(held) >= 3 * len(parameters)
    assert {tensor.dtype for tensor in held} == {torch.float32}


def test_the_launcher_turns_it_on():
    config = RunConfig(problem="test")
    assert with_launched_precision(config, {}) == config
    assert with_launched_precision(config, {"ACCELERATE_MIXED_PRECISION": "no"}) == config
    found = with_launched_precision(config, {"ACCELERATE_MIXED_PRECISION": "bf16"})
    assert found.model.precision == "bfloat16"
    with pytest.raises(UserError, match=r"fp16 is not possible.*bf16 or no"):
        with_launched_precision(config, {"ACCELERATE_MIXED_PRECISION": "fp16"})
    with pytest.raises(UserError, match=r"add model.precision=bfloat16"):
        with_launched_precision(config, {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_DEEPSPEED": "true"})


def test_launched_with_a_form_that_cannot_is_refused():
    config = RunConfig(problem="test", inner=InnerConfig(fast_weights="looped"))
    with pytest.raises(UserError, match=r"model.precision=bfloat16 is not possible.*inner.fast_weights=auto"):
        with_launched_precision(config, {"ACCELERATE_MIXED_PRECISION": "bf16"})


def test_a_checkpoint_remembers_how_it_was_trained(tmp_path):
    config = ModelConfig(width=8, heads=2, context=16, precision="bfloat16")
    model, tokenizer = load_model(config, WORDS, seed=0)
    checkpoint = Checkpoint(
        model=model, tokenizer=tokenizer, method="in_context", problem="test", prompts=Prompts(), rates=None
    )
    save_checkpoint(tmp_path / "checkpoint", checkpoint)
    assert precision_of(load_checkpoint(tmp_path / "checkpoint").model) == "bfloat16"
    note = tmp_path / "checkpoint" / "reckoning.json"
    note.write_text(note.read_text().replace('"bfloat16"', '"half"'))
    with pytest.raises(UserError, match="precision is 'half'"):
        load_checkpoint(tmp_path / "checkpoint")
