"""AdamW and its schedule for the outer level, in parameter groups."""

import math

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from reckoning_betty.config import TrainingConfig
from reckoning_betty.inner.rates import InnerRates


def outer_optimizer(module: nn.Module, training: TrainingConfig, rate_learning_rate: float) -> AdamW:
    """AdamW (eps 1e-8, as the paper) in three groups: weight matrices, the rest of the weights, and inner rates.

    Weight decay falls on matrices only; inner rates have a learning rate of their own.
    """
    rates = {id(p) for m in module.modules() if isinstance(m, InnerRates) for p in m.parameters()}
    weights = [p for p in module.parameters() if p.requires_grad and id(p) not in rates]
    groups = [
        {"params": [p for p in weights if p.dim() >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in weights if p.dim() < 2], "weight_decay": 0.0},
        {
            "params": [p for p in module.parameters() if p.requires_grad and id(p) in rates],
            "weight_decay": 0.0,
            "lr": rate_learning_rate,
        },
    ]
    return AdamW([group for group in groups if group["params"]], lr=training.learning_rate, eps=1e-8)


def outer_schedule(optimizer: torch.optim.Optimizer, training: TrainingConfig) -> LambdaLR:
    """A linear warm-up, then constant, or falling to 0 at the last step on a line or half a cosine."""

    def factor(step: int) -> float:
        if step < training.warmup_steps:
            return (step + 1) / (training.warmup_steps + 1)
        done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
        done = min(1.0, done)
        return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[
            training.schedule
        ]

    return LambdaLR(optimizer, factor)
