"""Fast weights whose hypergradient is a forward-over-reverse sweep: copies, one per task, the model mapped over them.

No second-order graph is built at all, so that of a step nothing stays but theta_k. ``torch.vmap`` runs all tasks in one
pass; the token-factor and stacked forms have no forward mode.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import grad_and_value, jvp, vmap
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from reckoning_betty.errors import UserError
from reckoning_betty.inner.looped import logits_of
from reckoning_betty.inner.losses import Loss, parts_of
from reckoning_betty.inner.recompute import refuse_third_order

Tensors = dict[str, Tensor]
"""By parameter name."""

LossesOf = Callable[[Tensors, Tensors], Tensor]
"""The tasks' losses [B], or a part of them, of the copies and of the parameters that do not move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptCopies:
    """theta_k of B tasks. Immutable: ``step``, by gradient descent, returns theta_{k+1}.

    Args:
        model: mapped over the copies.
        copies: theta_k by parameter name, with the tasks along each tensor's first dimension.
        shared: the model's trained parameters that do not move.
    """

    model: nn.Module
    copies: Tensors
    shared: Tensors

    @classmethod
    def start(cls, model: nn.Module, names: Sequence[str], num_tasks: int) -> "SweptCopies":
        """theta_0 = theta."""
        parameters = dict(model.named_parameters())
        return cls(
            model=model,
            copies={name: parameters[name].expand(num_tasks, *parameters[name].shape) for name in names},
            shared={name: p for name, p in parameters.items() if p.requires_grad and name not in names},
        )

    def logits(self, tokens: Tensor, positions: None = None) -> Tensor:
        """[B, R, T] to [B, R, T, V], each task under its own weights; rows are never packed, whose masks vmap refuses.

        Raises:
            UserError: the model does what ``torch.vmap`` cannot map, or what forward mode gets wrong.
        """
        self._refuse_padding_inside(tokens)
        try:
            return vmap(lambda copy, rows: logits_of(self.model, self.shared | copy, rows))(self.copies, tokens)
        except RuntimeError as error:
            if not any(reason in str(error) for reason in ("vmap", "mutate a captured Tensor")):
                raise
            raise UserError(
                f"torch.vmap cannot map {type(self.model).__name__}, which forward_over_reverse needs; take "
                "hypergradient=unrolled, with inner.checkpoint=true for its memory."
            ) from error

    def step(
        self,
        loss_of: Loss | Sequence[Loss],
        rates: Tensors,
        create_graph: bool,
    ) -> tuple["SweptCopies", Tensor]:
        """As ``OnePassWeights.step``."""

        def at(part: Loss) -> LossesOf:
            return lambda copies, shared: part(replace(self, copies=copies, shared=shared))

        parts = [at(part) for part in parts_of(loss_of)]
        copies, losses = forward_over_reverse(parts, self.copies, rates, self.shared, create_graph)
        return replace(self, copies=copies), losses

    def cut(self) -> "SweptCopies":
        """The same values without history."""
        return replace(self, copies={name: copy.detach().requires_grad_() for name, copy in self.copies.items()})

    def _refuse_padding_inside(self, tokens: Tensor) -> None:
        """Raise UserError for padding ids before a row's end, where ``padding_idx`` does not survive torch.vmap."""
        for table in self.model.modules():
            if not isinstance(table, nn.Embedding) or table.padding_idx is None:
                continue
            is_padding = tokens == table.padding_idx
            if (is_padding[..., :-1] & ~is_padding[..., 1:]).any():
                raise UserError(
                    f"The token {table.padding_idx}, which is the model's padding, stands inside a row: forward over "
                    "reverse is wrong there; take hypergradient=unrolled, with inner.checkpoint=true for its memory."
                )


def forward_over_reverse(
    parts: Sequence[LossesOf],
    copies: Tensors,
    rates: Tensors,
    shared: Tensors,
    second_order: bool = True,
) -> tuple[Tensors, Tensor]:
    """A step of gradient descent whose part of the hypergradient is a directional derivative of its gradient g.

    With v the cotangent of theta_{k+1} = theta_k - alpha g(theta_k), and H the Hessian of the inner loss,

        theta_k-bar = v - H (alpha v),   alpha-bar[l] = -<v_l, g_l>

    where H u is the derivative of g along u, forward mode over reverse mode (MixFlow-MG, arXiv 2505.00793, section 3).
    Parameters that do not move get the part of -H (alpha v) that is theirs.

    Args:
        parts: what sums to the tasks' losses; each is differentiated by itself.
        copies: theta_k, [B, ...] each.
        rates: alpha, scalars.
        shared: trained parameters that do not move.
        second_order: False takes H for 0.

    Returns:
        theta_{k+1} and the losses [B], detached.
    """
    flat, structure = tree_flatten((copies, rates, shared))

    def gradient(now: Tensors, kept: Tensors) -> tuple[tuple[Tensors, Tensors], Tensor]:
        found = _gradient_of(parts[0], now, kept)
        for part in parts[1:]:
            found = tree_map(torch.add, found, _gradient_of(part, now, kept))
        return found

    losses, *moved = _Swept.apply(gradient, structure, second_order, *flat)
    return dict(zip(copies, moved, strict=True)), losses


def _gradient_of(losses_of: LossesOf, copies: Tensors, shared: Tensors) -> tuple[tuple[Tensors, Tensors], Tensor]:
    """By copies and by what does not move, and the losses [B]."""

    def total(now: Tensors, kept: Tensors) -> tuple[Tensor, Tensor]:
        losses = losses_of(now, kept)
        return losses.sum(), losses

    found, (_, losses) = grad_and_value(total, argnums=(0, 1), has_aux=True)(copies, shared)
    return found, losses


class _Swept(Function):
    @staticmethod
    def forward(ctx, gradient: Callable, structure: Any, second_order: bool, *flat: Tensor) -> tuple[Tensor, ...]:
        ctx.gradient, ctx.structure, ctx.second_order = gradient, structure, second_order
        ctx.save_for_backward(*flat)
        copies, rates, shared = tree_unflatten([tensor.detach() for tensor in flat], structure)
        (g, _), losses = gradient(copies, shared)
        ctx.mark_non_differentiable(losses)
        return losses, *(copies[name] - rates[name] * g[name] for name in copies)

    @staticmethod
    def backward(ctx, _, *bars: Tensor):
        refuse_third_order()
        copies, rates, shared = tree_unflatten([tensor.detach() for tensor in ctx.saved_tensors], ctx.structure)
        copies = {name: copy.contiguous() for name, copy in copies.items()}  # a tangent takes its primal's layout
        v = dict(zip(copies, bars, strict=True))
        if ctx.second_order:
            u = {name: rates[name] * bar for name, bar in v.items()}
            still = {name: torch.zeros_like(tensor) for name, tensor in shared.items()}
            (g, _), (hessian_u, of_shared) = jvp(lambda *now: ctx.gradient(*now)[0], (copies, shared), (u, still))
            v_before = {name: v[name] - hessian_u[name] for name in v}
            shared_bar = {name: -tensor for name, tensor in of_shared.items()}
        else:
            (g, _), _ = ctx.gradient(copies, shared)
            v_before, shared_bar = v, dict.fromkeys(shared)
        rates_bar = {name: -(v[name] * g[name]).sum() for name in rates}
        return None, None, None, *v_before.values(), *rates_bar.values(), *shared_bar.values()
