"""Mends 10 and 11: Betty's implicit functions on an inner loop that starts from the upper level's parameters."""

from collections.abc import Sequence
from typing import Any

import torch
from betty.hypergradient import jvp_fn_mapping
from betty.problems import Problem
from torch import Tensor

from reckoning_betty.mended_betty.unrolled import UnrolledProblem


class ImplicitInnerProblem(UnrolledProblem):
    """Mend 11: a lower level whose end Betty's implicit functions differentiate, from ``Config.type``.

    After the last step the parameters become leaves, and ``training_step`` the inner objective as a function of them
    and of what the upper level trains, summed over tasks. A subclass also gives ``leaves_of`` and ``objective``.
    """

    has_implicit_gradient = True

    leaves: Sequence[Tensor] = ()
    """phi at the end of the inner loop, each tensor with the tasks along its first dimension."""
    _at_leaves: Any = None

    def leaves_of(self, fast: Any) -> tuple[Any, Any, list[Tensor]]:
        """``fast`` as the upper level uses it, the same as a function of leaves alone, and those leaves."""
        raise NotImplementedError

    def objective(self, at_leaves: Any, batch: Any) -> Tensor:
        """The inner objective, summed over tasks, with the upper level's parameters attached."""
        raise NotImplementedError

    def on_inner_loop_start(self) -> None:
        self.leaves, self._at_leaves = (), None
        super().on_inner_loop_start()

    def training_step(self, batch: Any) -> Tensor:
        if self.leaves:
            return self.objective(self._at_leaves, batch)
        return super().training_step(batch)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.inner_step == self.config.unroll_steps:
            self.fast, self._at_leaves, self.leaves = self.leaves_of(self.fast)

    def end_inner_loop(self) -> None:
        super().end_inner_loop()
        self.leaves, self._at_leaves = (), None

    def parameters(self) -> list[Tensor]:
        return list(self.leaves)

    trainable_parameters = parameters


def conjugate_gradient(vector: list[Tensor], curr: Problem, prev: Problem, sync: bool) -> list[Tensor] | None:
    """Mend 10: Betty's ``cg`` with x the solution of (alpha H) x = v, whose alpha x it then goes on with.

    Betty takes the old residual for the new direction, and leaves alpha out of it. Where ``curr`` is an
    ``ImplicitInnerProblem``, H has a block for each task, and each gets its own step sizes: with common ones M
    iterations no longer solve M dimensions.

    Args:
        vector: v, as the parameters of ``curr``.
        sync: add the result to ``.grad`` of what ``prev`` trains, instead of returning it.
    """
    assert not curr.paths, "cg is not for more than two levels"
    parameters, alpha = curr.trainable_parameters(), curr.config.cg_alpha
    num_blocks = parameters[0].shape[0] if isinstance(curr, ImplicitInnerProblem) else 1  # tasks come first

    def dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
        return sum((left * right).reshape(num_blocks, -1).sum(1) for left, right in zip(a, b, strict=True))

    def plus(a: list[Tensor], steps: Tensor, b: list[Tensor]) -> list[Tensor]:
        return [
            left + (steps.view(-1, *[1] * (right.ndim - 1)) if num_blocks > 1 else steps) * right
            for left, right in zip(a, b, strict=True)
        ]

    loss = curr.training_step_exec(curr.cur_batch)
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    x, r = [torch.zeros_like(part) for part in vector], list(vector)
    p, squared = r, dot(r, r)
    for _ in range(curr.config.cg_iterations):
        product = torch.autograd.grad(gradient, parameters, grad_outputs=p, retain_graph=True)
        product = [alpha * part for part in product]
        curvature = dot(p, product)
        # a task whose residual is 0 has arrived: 0 / 0
        step = torch.where(curvature == 0, 0.0, squared / torch.where(curvature == 0, 1.0, curvature))
        x, r = plus(x, step, p), plus(r, -step, product)
        before, squared = squared, dot(r, r)
        p = plus(r, torch.where(before == 0, 0.0, squared / torch.where(before == 0, 1.0, before)), p)
    x = [-alpha * part for part in x]
    upper = prev.trainable_parameters()
    if sync:
        torch.autograd.backward(gradient, inputs=upper, grad_tensors=x)
        return None
    return list(torch.autograd.grad(gradient, upper, grad_outputs=x, allow_unused=True))


jvp_fn_mapping["cg"] = conjugate_gradient
