"""Fast weights theta_k: one set of adapted parameters per task, all connected to the meta-parameters theta.

Two forms with the same interface. ``BatchedCopies`` stacks the copies of all tasks and maps the model over them at
once; ``LoopedCopies`` runs the model task by task, which needs less memory at a time and nothing of the model but a
forward pass. Every tensor has the tasks first. Letters: B tasks, R rows (facts or questions), T tokens, V vocabulary.
"""

from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

Form = Literal["auto", "batched", "looped"]

BATCHED_LIMIT = 2_000_000
"""``auto`` batches models up to this many parameters; beyond, the copies cost more than the loop (DESIGN.md 3)."""


class FastWeights(Protocol):
    """theta_k of B tasks. Immutable: ``moved`` returns theta_{k+1}."""

    def logits(self, tokens: Tensor) -> Tensor:
        """Next-token logits [B, R, T, V] for token ids [B, R, T], each task under its own weights."""

    def gradients(self, loss: Tensor, create_graph: bool) -> Any:
        """The gradient of a scalar that is a sum over tasks, so that each task's copy gets its own gradient."""

    def moved(self, gradients: Any, rates: dict[str, Tensor]) -> "FastWeights":
        """theta_{k+1,l} = theta_{k,l} - alpha[l,k] * grad_l (DESIGN.md section 1)."""

    def cut(self) -> "FastWeights":
        """The same values without history, for evaluation, where no hypergradient is wanted."""


class BatchedCopies:
    """Copies stacked as [B, *shape] and mapped with ``torch.func.vmap``."""

    def __init__(self, model: nn.Module, copies: dict[str, Tensor]):
        self.model = model
        self.copies = copies

    @classmethod
    def start(cls, model: nn.Module, names: list[str], num_tasks: int) -> "BatchedCopies":
        parameters = dict(model.named_parameters())
        return cls(model, {name: parameters[name].expand(num_tasks, *parameters[name].shape) for name in names})

    def logits(self, tokens: Tensor) -> Tensor:
        return vmap(lambda copy, rows: _logits(self.model, copy, rows))(self.copies, tokens)

    def gradients(self, loss: Tensor, create_graph: bool) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(self.copies.values()), create_graph=create_graph))

    def moved(self, gradients: list[Tensor], rates: dict[str, Tensor]) -> "BatchedCopies":
        pairs = zip(self.copies.items(), gradients, strict=True)
        return BatchedCopies(self.model, {name: _descend(copy, grad, rates[name]) for (name, copy), grad in pairs})

    def cut(self) -> "BatchedCopies":
        return BatchedCopies(self.model, {name: _leaf(copy) for name, copy in self.copies.items()})


class LoopedCopies:
    """One dictionary of tensors per task; the model runs once per task."""

    def __init__(self, model: nn.Module, copies: list[dict[str, Tensor]]):
        self.model = model
        self.copies = copies

    @classmethod
    def start(cls, model: nn.Module, names: list[str], num_tasks: int) -> "LoopedCopies":
        parameters = dict(model.named_parameters())
        # view_as gives every task a node of its own in the graph, so that gradients do not mix
        return cls(
            model, [{name: parameters[name].view_as(parameters[name]) for name in names} for _ in range(num_tasks)]
        )

    def logits(self, tokens: Tensor) -> Tensor:
        pairs = zip(self.copies, tokens, strict=True)
        return torch.stack([_logits(self.model, copy, rows) for copy, rows in pairs])

    def gradients(self, loss: Tensor, create_graph: bool) -> list[Tensor]:
        inputs = [tensor for copy in self.copies for tensor in copy.values()]
        return list(torch.autograd.grad(loss, inputs, create_graph=create_graph))

    def moved(self, gradients: list[Tensor], rates: dict[str, Tensor]) -> "LoopedCopies":
        remaining = iter(gradients)
        return LoopedCopies(
            self.model,
            [
                {name: _descend(tensor, next(remaining), rates[name]) for name, tensor in copy.items()}
                for copy in self.copies
            ],
        )

    def cut(self) -> "LoopedCopies":
        return LoopedCopies(
            self.model, [{name: _leaf(tensor) for name, tensor in copy.items()} for copy in self.copies]
        )


def start_fast_weights(model: nn.Module, names: list[str], num_tasks: int, form: Form) -> FastWeights:
    """theta_0 = theta for every task, in the form asked for; ``auto`` goes by the model's size."""
    if form == "auto":
        size = sum(parameter.numel() for parameter in model.parameters())
        form = "batched" if size <= BATCHED_LIMIT else "looped"
    return {"batched": BatchedCopies, "looped": LoopedCopies}[form].start(model, names, num_tasks)


def _logits(model: nn.Module, parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
    # No attention mask: rows are padded on the right, and causal attention keeps padding from real tokens exactly.
    # strict=False lets tied weights follow the one name under which they are listed.
    return functional_call(model, parameters, (), {"input_ids": rows, "use_cache": False}).logits


def _descend(tensor: Tensor, gradient: Tensor, rate: Tensor) -> Tensor:
    return tensor + (-rate) * gradient  # the sign goes to the scalar: one pass less over the weights


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()
