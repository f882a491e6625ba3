"""The outer level's optimizer, AdamW or Muon with AdamW, and its schedule, in parameter groups."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from reckoning_betty.config import TrainingConfig
from reckoning_betty.inner.rates import InnerRates


def outer_optimizer(module: nn.Module, training: TrainingConfig, rate_learning_rate: float) -> torch.optim.Optimizer:
    """AdamW (eps 1e-8, as the paper) in three groups: weight matrices, the rest of the weights, and inner rates.

    Weight decay falls on matrices only; inner rates have a learning rate of their own. With ``training.optimizer`` as
    ``muon``, the matrices between embeddings and head are a fourth group, the first one, and take Muon's steps.
    """
    rates = {id(p) for m in module.modules() if isinstance(m, InnerRates) for p in m.parameters()}
    trained = [p for p in module.parameters() if p.requires_grad]
    weights = [p for p in trained if id(p) not in rates]
    hidden = _hidden_matrices(module, weights) if training.optimizer == "muon" else []
    apart = {id(p) for p in hidden}
    groups = [
        {"params": [p for p in weights if p.dim() >= 2 and id(p) not in apart], "weight_decay": training.weight_decay},
        {"params": [p for p in weights if p.dim() < 2], "weight_decay": 0.0},
        {"params": [p for p in trained if id(p) in rates], "weight_decay": 0.0, "lr": rate_learning_rate},
    ]
    adamw = AdamW([group for group in groups if group["params"]], lr=training.learning_rate, eps=1e-8)
    if not hidden:
        return adamw
    # 0.2 sqrt(max(in, out)) times an orthogonal matrix is as long as a step of AdamW: both take one learning rate
    kind = Muon if hidden[0].is_cuda else UnroundedMuon
    muon = kind(hidden, training.learning_rate, training.weight_decay, adjust_lr_fn="match_rms_adamw")
    return MuonWithAdamW(muon, adamw)


class UnroundedMuon(Muon):
    """PyTorch's Muon, its rounds in the matrices' own precision instead of bfloat16.

    On a CPU without bfloat16 products (AVX2 alone) PyTorch's step takes 11 to 38 times as long as this one, with a
    small model more than all else of an outer step.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """M <- mu M + (1 - mu) G, theta <- (1 - eta lambda) theta - eta s O((1 - mu) G + mu M).

        For theta [out, in], s = 0.2 sqrt(max(out, in)) (Muon Is Scalable for LLM Training, arXiv 2502.16982, section
        2.2).
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            mu, eta = group["momentum"], group["lr"]
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:  # PyTorch's name: saved states serve both
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                momentum = state["momentum_buffer"].lerp_(gradient, 1 - mu)
                ahead = gradient.lerp(momentum, mu)
                update = orthogonal(ahead, group["ns_coefficients"], group["ns_steps"], group["eps"])
                parameter.mul_(1 - eta * group["weight_decay"])
                parameter.add_(update, alpha=-eta * 0.2 * math.sqrt(max(parameter.shape)))
        return loss


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], rounds: int, eps: float) -> Tensor:
    """O: the matrix [out, in] with its singular values brought near 1, in its own precision.

    From X = M / |M|_F, in each round X <- a X + b (X X^T) X + c (X X^T)^2 X (Jordan, Muon, 2024).
    """
    a, b, c = coefficients
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if is_tall else matrix  # the Gram matrix is the smaller one
    x = x / x.norm().clamp(min=eps)
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers as one, with one state dict and one list of groups, which a schedule finds: Muon's group first."""

    def __init__(self, muon: Muon, adamw: AdamW):
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self._parts = ((muon, len(muon.param_groups)), (adamw, len(adamw.param_groups)))

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None if closure is None else closure()
        first = 0
        for part, length in self._parts:  # handed over anew: loading a state dict replaces both
            part.state, part.param_groups = self.state, self.param_groups[first : first + length]
            part.step()
            first += length
        return loss


def _hidden_matrices(module: nn.Module, weights: list[nn.Parameter]) -> list[nn.Parameter]:
    """The matrices among ``weights`` whose rows stand for no tokens or places, which are what Muon is made for."""
    layers = [m for m in module.modules() if isinstance(m, nn.Embedding)]
    layers += [m.get_output_embeddings() for m in module.modules() if isinstance(m, PreTrainedModel)]
    outer = {id(p) for layer in layers if layer is not None for p in layer.parameters()}
    return [p for p in weights if p.dim() == 2 and id(p) not in outer]


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
