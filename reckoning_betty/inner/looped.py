"""Fast weights as one copy of the adapted parameters per task, and the model run task by task: the ``looped`` form.

The plainest form, and the one that asks least of a model: nothing but a forward pass with other weights. The other
forms are tested against it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from reckoning_betty.inner.losses import Loss, parts_of
from reckoning_betty.inner.optimizers import InnerOptimizer, State
from reckoning_betty.inner.recompute import Tree, recomputed

Copies = list[dict[str, Tensor]]
"""theta_k by parameter name, for each task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopedCopies:
    """theta_k of B tasks, one dictionary each. Immutable: ``step`` returns theta_{k+1}.

    Args:
        model: runs with each copy in turn.
        copies: theta_k by parameter name, per task.
        shared: the model's trained parameters that do not move.
        optimizer: moves each parameter.
        states: what the optimizer remembers of each parameter, per task.
        checkpoint: keep no graph of an inner step until the hypergradient comes back to it.
        steps_done: k.
    """

    model: nn.Module
    copies: Copies
    shared: dict[str, Tensor]
    optimizer: InnerOptimizer
    states: list[dict[str, State]]
    checkpoint: bool = False
    steps_done: int = 0

    @classmethod
    def start(
        cls,
        model: nn.Module,
        names: Sequence[str],
        num_tasks: int,
        optimizer: InnerOptimizer,
        checkpoint: bool = False,
    ) -> "LoopedCopies":
        """theta_0 = theta."""
        parameters = dict(model.named_parameters())
        return cls(
            model=model,
            # view_as gives every task a node of its own in the graph, so that gradients do not mix
            copies=[{name: parameters[name].view_as(parameters[name]) for name in names} for _ in range(num_tasks)],
            shared={name: p for name, p in parameters.items() if p.requires_grad and name not in names},
            optimizer=optimizer,
            states=[dict.fromkeys(names, ()) for _ in range(num_tasks)],
            checkpoint=checkpoint,
        )

    def logits(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """[B, R, T] to [B, R, T, V], each task under its own weights."""
        places = [None] * len(tokens) if positions is None else positions
        read = zip(self.copies, tokens, places, strict=True)
        return torch.stack([logits_of(self.model, self.shared | copy, rows, place) for copy, rows, place in read])

    def step(
        self,
        loss_of: Loss | Sequence[Loss],
        rates: dict[str, Tensor],
        create_graph: bool,
    ) -> tuple["LoopedCopies", Tensor]:
        """As ``OnePassWeights.step``."""
        *earlier, last = parts_of(loss_of)
        gradients: list[Tensor] = []
        total: Tensor | float = 0.0

        def run(function: Callable[..., Tree], *inputs: Tree) -> Tree:
            if self.checkpoint and create_graph:
                return recomputed(lambda given, graph: function(*given, graph), inputs, list(self.shared.values()))
            return function(*inputs, create_graph)

        for loss_of_part in earlier:
            found, losses = run(partial(self._taken, loss_of_part), self.copies)
            gradients = [a + b for a, b in zip(gradients, found, strict=True)] if gradients else found
            total = total + losses
        copies, states, losses = run(partial(self._moved, last), self.copies, self.states, rates, gradients)
        after = replace(self, copies=copies, states=states, steps_done=self.steps_done + 1)
        return after, total + losses

    def cut(self) -> "LoopedCopies":
        """The same values without history."""
        return replace(
            self,
            copies=[{n: tensor.detach().requires_grad_() for n, tensor in copy.items()} for copy in self.copies],
            states=[{n: tuple(t.detach() for t in state) for n, state in states.items()} for states in self.states],
        )

    def _taken(self, loss_of: Loss, copies: Copies, create_graph: bool) -> tuple[list[Tensor], Tensor]:
        """One pass's gradient by every parameter of every task in turn, and its losses."""
        losses = loss_of(replace(self, copies=copies))
        flat = [tensor for copy in copies for tensor in copy.values()]
        found = torch.autograd.grad(losses.sum(), flat, create_graph=create_graph, allow_unused=True)
        return [torch.zeros_like(t) if g is None else g for t, g in zip(flat, found, strict=True)], losses.detach()

    def _moved(
        self,
        loss_of: Loss,
        copies: Copies,
        states: list[dict[str, State]],
        rates: dict[str, Tensor],
        earlier: list[Tensor],
        create_graph: bool,
    ) -> tuple[Copies, list[dict[str, State]], Tensor]:
        """The new copies and states, by the gradients of the last pass and of the ``earlier`` ones; its losses."""
        found, losses = self._taken(loss_of, copies, create_graph)
        gradients = iter([a + b for a, b in zip(found, earlier, strict=True)] if earlier else found)
        new_copies, new_states = [], []
        for copy, state in zip(copies, states, strict=True):
            moved = {
                name: self.optimizer.moved(tensor, next(gradients), rates[name], state[name], self.steps_done)
                for name, tensor in copy.items()
            }
            new_copies.append({name: pair[0] for name, pair in moved.items()})
            new_states.append({name: pair[1] for name, pair in moved.items()})
        return new_copies, new_states, losses


def logits_of(model: nn.Module, parameters: dict[str, Tensor], rows: Tensor, positions: Tensor | None = None) -> Tensor:
    """[R, T, V] for one task's token ids [R, T] under its parameters."""
    # No attention mask: rows are padded on the right, and causal attention keeps padding from real tokens exactly.
    # functional_call lets tied weights follow the one name under which they are listed.
    options = {"use_cache": False} if positions is None else {"use_cache": False, "position_ids": positions}
    return functional_call(model, parameters, (), {"input_ids": rows, **options}).logits
