"""What the outer level steps, and how: Muon against a plain loop in float64, AdamW for all that is no hidden matrix."""

import copy
import io
import math
from dataclasses import replace

import pytest
import torch
from tiny_models import tiny_gpt2, tiny_llama

from problems.reasoning import MetaParameters
from reckoning_betty.config import TrainingConfig
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.causal_lm import adapted_names, layer_names
from reckoning_betty.outer_optimizer import UnroundedMuon, outer_optimizer, outer_schedule

MUON = TrainingConfig(optimizer="muon", learning_rate=0.01, weight_decay=0.1, warmup_steps=2, steps=10)
RATE_STEP = 0.05


def meta_parameters(model) -> MetaParameters:
    names, layers = adapted_names(model), layer_names(model)
    return MetaParameters(model, InnerRates({name: layers[name] for name in names}, 2, 0.1, "per_step_per_layer"))


def gradients(module, step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {name: torch.randn(p.shape, generator=generator) for name, p in module.named_parameters()}


def take_step(module, optimizer, schedule, step: int) -> None:
    for name, gradient in gradients(module, step).items():
        module.get_parameter(name).grad = gradient
    optimizer.step()
    schedule.step()


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Five rounds of X <- a X + (b X X^T + c (X X^T)^2) X from X = M / |M|_F (Jordan 2024, Muon)."""
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


class Loop:
    """Both optimizers of one parameter, written out in float64."""

    def __init__(self, start: torch.Tensor, by_muon: bool, weight_decay: float):
        self.value, self.by_muon, self.weight_decay = start.double().clone(), by_muon, weight_decay
        self.first, self.second, self.count = torch.zeros_like(self.value), torch.zeros_like(self.value), 0

    def step(self, gradient: torch.Tensor, rate: float) -> None:
        g, self.count = gradient.double(), self.count + 1
        self.value *= 1 - rate * self.weight_decay
        if self.by_muon:
            self.first = 0.95 * self.first + 0.05 * g
            ahead = 0.05 * g + 0.95 * self.first
            self.value -= rate * 0.2 * math.sqrt(max(g.shape)) * orthogonal(ahead)
        else:
            self.first = 0.9 * self.first + 0.1 * g
            self.second = 0.999 * self.second + 0.001 * g**2
            mean, square = self.first / (1 - 0.9**self.count), self.second / (1 - 0.999**self.count)
            self.value -= rate * mean / (square.sqrt() + 1e-8)


@pytest.mark.parametrize("family", [tiny_gpt2, tiny_llama])
def test_steps_are_those_of_a_plain_loop(family):
    module = meta_parameters(family(30).float())
    optimizer = outer_optimizer(module, MUON, RATE_STEP)
    schedule = outer_schedule(optimizer, MUON)
    loops, start = {}, {name: p.detach().double() for name, p in module.named_parameters()}
    for name, p in module.named_parameters():
        by_muon = p.dim() == 2 and "layers." in name.replace(".h.", ".layers.") and not name.startswith("rates")
        decayed = p.dim() == 2 and not name.startswith("rates")
        loops[name] = Loop(p.detach(), by_muon, MUON.weight_decay if decayed else 0.0)
    assert {loop.by_muon for loop in loops.values()} == {True, False}
    for step in range(4):
        factor = (step + 1) / 3 if step < 2 else 1 - (step - 2) / 8
        for name, gradient in gradients(module, step).items():
            loops[name].step(gradient, factor * (RATE_STEP if name.startswith("rates") else MUON.learning_rate))
        take_step(module, optimizer, schedule, step)
    for name, p in module.named_parameters():
        moved, wanted = p.detach().double() - start[name], loops[name].value - start[name]
        assert (moved - wanted).norm() <= 1e-4 * wanted.norm(), name


def test_muon_on_a_cpu_is_pytorchs_but_for_its_bfloat16_rounds():
    """Their digits end at 0.4%; a state that one has saved serves the other."""
    torch.manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.ones(shape)) for shape in ((6, 24), (24, 6))] for _ in range(2))
    options = {"lr": 0.01, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    mine, pytorchs = UnroundedMuon(ours, **options), torch.optim.Muon(theirs, **options)
    for step in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        mine.step()
        pytorchs.step()
        if step == 1:
            mine.load_state_dict(copy.deepcopy(pytorchs.state_dict()))
    for p, q in zip(ours, theirs, strict=True):
        assert 0 < (p - q).norm() <= 0.02 * (q - 1).norm()


def test_a_state_loaded_from_a_file_goes_on_with_the_same_bits():
    whole, first = meta_parameters(tiny_gpt2(30)), meta_parameters(tiny_gpt2(30))
    on, off = outer_optimizer(whole, MUON, RATE_STEP), outer_optimizer(first, MUON, RATE_STEP)
    schedules = outer_schedule(on, MUON), outer_schedule(off, MUON)
    for step in range(3):
        take_step(whole, on, schedules[0], step)
        take_step(first, off, schedules[1], step)
    file = io.BytesIO()
    torch.save(
        {"module": first.state_dict(), "optimizer": off.state_dict(), "schedule": schedules[1].state_dict()}, file
    )
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = meta_parameters(tiny_gpt2(30))
    again = outer_optimizer(second, MUON, RATE_STEP)
    schedule = outer_schedule(again, MUON)
    second.load_state_dict(saved["module"])
    again.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    for step in range(3, 6):
        take_step(whole, on, schedules[0], step)
        take_step(second, again, schedule, step)
    for name, p in whole.named_parameters():
        assert torch.equal(p, second.get_parameter(name)), name


def test_adamw_is_the_default_and_has_everything():
    module = meta_parameters(tiny_gpt2(30))
    optimizer = outer_optimizer(module, replace(MUON, optimizer=TrainingConfig().optimizer), RATE_STEP)
    assert type(optimizer) is torch.optim.AdamW
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.parameters()))
