"""What the fast weights of ``reckoning_betty.inner`` are held against: a plain loop, and a small batch for both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from reckoning_betty.data.collate import TokenRows
from reckoning_betty.inner.encode import encoding_losses
from reckoning_betty.inner.fast_weights import FastWeightsPlan, balance
from reckoning_betty.inner.losses import Reduction, answer_nll, nll_of
from reckoning_betty.models.causal_lm import adapted_names

STEPS = 3
VOCABULARY = 19

Ids = list[list[list[int]]]
"""Token ids of every row (fact or question) of every task."""

FACTS: Ids = [
    [[3, 4, 5, 6, 7, 8, 3], [9, 10, 3], [5, 11, 12, 9]],
    [[12, 5, 6, 13, 4], [14, 15, 12, 3, 2, 6]],
    [[16, 17, 18]],
]
"""Tasks that differ in the number and length of their facts; within and between them tokens come again."""
QUESTIONS: Ids = [
    [[4, 5, 6, 9]],
    [[14, 6, 12, 5, 3], [13, 4, 18]],
    [[17, 16, 2, 8], [3, 11, 4, 5, 7], [6, 9, 10]],
]
ANSWER = 2
"""Tokens at a question's end that the outer loss scores."""


@dataclass(frozen=True)
class Found:
    """A hypergradient: of every parameter and of every rate, with the outer loss and the inner ones [steps, B]."""

    parameters: dict[str, Tensor]
    rates: dict[str, Tensor]
    outer_loss: Tensor
    inner_losses: Tensor

    @property
    def tensors(self) -> dict[str, Tensor]:
        return self.parameters | {f"rate of {name}": gradient for name, gradient in self.rates.items()}


def all_names(model: nn.Module) -> list[str]:
    return adapted_names(model)


def some_rates(names: Sequence[str], num_steps: int = STEPS, low: float = 0.05, high: float = 0.3) -> dict[str, Tensor]:
    """Rates [N] by name, all unequal."""
    generator = torch.Generator().manual_seed(5)
    drawn = torch.rand(len(names), num_steps, generator=generator, dtype=torch.float64).mul(high - low).add(low)
    return {name: row.to(torch.get_default_dtype()) for name, row in zip(names, drawn, strict=True)}


def padded(tasks: Ids, pad: int = 0, scored_from: Callable[[list[int]], int] = lambda row: 0) -> TokenRows:
    """Rows in one batch; of a row the tokens from ``scored_from(row)`` on are scored."""
    shape = (len(tasks), max(map(len, tasks)), max(len(row) for rows in tasks for row in rows))
    tokens, scored = torch.full(shape, pad), torch.zeros(shape, dtype=torch.bool)
    exists = torch.zeros(shape[:2], dtype=torch.bool)
    for b, rows in enumerate(tasks):
        for r, row in enumerate(rows):
            tokens[b, r, : len(row)] = torch.tensor(row)
            scored[b, r, scored_from(row) : len(row)] = True
            exists[b, r] = True
    return TokenRows(tokens=tokens, scored=scored, rows=exists)


def answered(questions: Ids, pad: int = 0) -> TokenRows:
    return padded(questions, pad, lambda row: len(row) - ANSWER)


def hypergradient_of(
    model: nn.Module,
    plan: FastWeightsPlan,
    rates: dict[str, Tensor],
    facts: Ids = FACTS,
    questions: Ids = QUESTIONS,
    pad: int = 0,
    differentiated: int | None = None,
    facts_per_pass: int = 0,
    reduction: Reduction = "mean",
) -> Found:
    """The hypergradient as the library takes it, the last ``differentiated`` steps to second order."""
    num_steps = len(next(iter(rates.values())))
    leaves = {name: rate.clone().requires_grad_() for name, rate in rates.items()}
    knowledge, asked = padded(facts, pad), answered(questions, pad)
    fast, inner_losses = plan.start(model, len(facts)), []
    passes = encoding_losses(knowledge, facts_per_pass, reduction)
    for k in range(num_steps):
        second_order = differentiated is None or k >= num_steps - differentiated
        alpha = {name: leaf[k] for name, leaf in leaves.items()}
        fast, losses = fast.step(passes, alpha, create_graph=second_order)
        inner_losses.append(losses)
    loss = answer_nll(nll_of(fast, asked), asked.scored, asked.rows).sum()
    return _found(loss, dict(model.named_parameters()), leaves, torch.stack(inner_losses))


def plain_loop(
    model: nn.Module,
    names: Sequence[str],
    rates: dict[str, Tensor],
    facts: Ids = FACTS,
    questions: Ids = QUESTIONS,
    differentiated: int | None = None,
    moved: Callable[[Tensor, Tensor, Tensor, list], Tensor] = lambda weight, gradient, rate, memory: (
        weight - rate * gradient
    ),
    reduction: Reduction = "mean",
) -> Found:
    """The same written out: one task, one row at a time, nothing padded, copies moved one by one.

    ``moved`` is an update of one tensor, with a list in which it may remember what it likes.
    """
    num_steps = len(next(iter(rates.values())))
    leaves = {name: rate.clone().requires_grad_() for name, rate in rates.items()}
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}

    def nll(fast, ids):
        given = parameters | fast
        logits = functional_call(model, given, (), {"input_ids": torch.tensor([ids]), "use_cache": False}).logits[0]
        return F.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none")

    total, inner_losses = 0.0, [[] for _ in range(num_steps)]
    for task_facts, task_questions in zip(facts, questions, strict=True):
        fast = {name: parameters[name] for name in names}
        memory = {name: [] for name in names}
        for k in range(num_steps):
            second_order = differentiated is None or k >= num_steps - differentiated
            # a fact of one token predicts nothing and counts with 0
            losses = [nll(fast, fact).mean() if len(fact) > 1 else 0 * fast[names[0]].sum() for fact in task_facts]
            loss = sum(losses) / (len(losses) if reduction == "mean" else 1)
            inner_losses[k].append(loss.detach())
            gradients = torch.autograd.grad(
                loss, list(fast.values()), create_graph=second_order, allow_unused=True, materialize_grads=True
            )
            fast = {
                name: moved(weight, gradient, leaves[name][k], memory[name])
                for (name, weight), gradient in zip(fast.items(), gradients, strict=True)
            }
        total = total + sum(nll(fast, question)[-ANSWER:].sum() for question in task_questions) / len(task_questions)
    return _found(total, parameters, leaves, torch.tensor(inner_losses))


def _found(loss: Tensor, parameters: dict[str, Tensor], rates: dict[str, Tensor], inner_losses: Tensor) -> Found:
    wanted = {n: p for n, p in parameters.items() if p.requires_grad}
    gradients = torch.autograd.grad(
        loss, [*wanted.values(), *rates.values()], allow_unused=True, materialize_grads=True
    )
    return Found(
        parameters=dict(zip(wanted, gradients[: len(wanted)], strict=True)),
        rates=dict(zip(rates, gradients[len(wanted) :], strict=True)),
        outer_loss=loss.detach(),
        inner_losses=inner_losses,
    )


def relative_errors(found: Found, expected: Found) -> dict[str, float]:
    """|found - expected| / |expected| of every tensor.

    Tensors that do not matter (a key's bias, to which softmax is blind) have a true gradient of 0, in place of which
    both sides hold rounding: below 1e-12 of the whole a difference is measured against the whole.
    """
    whole = torch.cat([gradient.double().flatten() for gradient in expected.parameters.values()]).norm().item()
    errors = {}
    assert list(found.tensors) == list(expected.tensors)
    for name, gradient in expected.tensors.items():
        size = gradient.double().norm().item()
        difference = (found.tensors[name].double() - gradient.double()).norm().item()
        errors[name] = difference / (size if size > 1e-12 * whole else whole)
    return errors


def assert_equal(found: Found, expected: Found, tolerance: float) -> None:
    errors = relative_errors(found, expected)
    worst = max(errors, key=errors.get)
    assert errors[worst] <= tolerance, f"{worst}: {errors[worst]:.1e} ({sum(e > tolerance for e in errors.values())})"
    torch.testing.assert_close(found.outer_loss.double(), expected.outer_loss.double(), rtol=tolerance, atol=0)
    torch.testing.assert_close(found.inner_losses.double(), expected.inner_losses.double(), rtol=tolerance, atol=0)


def plan_of(form: str, model: nn.Module, names: Sequence[str], **options) -> FastWeightsPlan:
    """A plan of the form; ``mixed`` mixes for certain: the limit lies between the sizes of the model's matrices."""
    if form != "mixed":
        return FastWeightsPlan(names=names, form=form, **options)
    parameters = dict(model.named_parameters())
    sizes = sorted({balance(*parameters[name].shape) for name in names if parameters[name].ndim == 2})
    assert len(sizes) > 1
    limit = (sizes[len(sizes) // 2 - 1] + sizes[len(sizes) // 2]) / 2
    return FastWeightsPlan(names=names, form="mixed", dual_limit=limit, **options)
