"""Every method on a two-layer GPT-2, through the levels that training uses, in float64."""

from dataclasses import dataclass

import pytest
import torch
from allocations import AllocatedBytes
from betty.configs import EngineConfig
from tiny_models import tiny_gpt2
from torch import nn
from torch.func import functional_call

from problems.methods import build_levels
from reckoning_betty.config import InnerConfig, RunConfig, TrainingConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder, TokenRows
from reckoning_betty.data.task import StoredTasks
from reckoning_betty.hypergradients.conjugate_gradient import ConjugateGradient
from reckoning_betty.hypergradients.darts import Darts
from reckoning_betty.hypergradients.first_order import FirstOrder
from reckoning_betty.hypergradients.forward_over_reverse import ForwardOverReverse
from reckoning_betty.hypergradients.neumann import Neumann
from reckoning_betty.hypergradients.registry import METHODS
from reckoning_betty.hypergradients.sama import Sama
from reckoning_betty.hypergradients.truncated import Truncated
from reckoning_betty.hypergradients.unrolled import Unrolled
from reckoning_betty.inner.encode import encoding_losses
from reckoning_betty.inner.losses import answer_nll, knowledge_nll, nll_of
from reckoning_betty.mended_betty import MendedEngine

STEPS, STRENGTH, WEIGHT = 3, 2.0, 0.7


class Case:
    """One outer step of one method: its hypergradient, and what an independent computation of it needs."""

    def __init__(self, tasks, tokenizer, method, **inner):
        options = {"steps": STEPS, "initial_rate": 0.1, "proximal": STRENGTH if method.is_implicit else 0.0} | inner
        config = RunConfig(
            problem="test",
            knowledge_weight=WEIGHT,
            hypergradient=method.name,
            hypergradient_options=method,
            inner=InnerConfig(**options),
            reckoning=TrainingConfig(steps=1, tasks_per_step=len(tasks), clip_norm=0.0),
        )
        self.model = tiny_gpt2(len(tokenizer))
        self.levels = build_levels(
            "reckoning", config, self.model, StoredTasks(tasks=tasks, seed=1), TaskEncoder(tokenizer, Prompts())
        )
        self.note = self.levels.note
        self.rates = self.levels.rates
        with torch.no_grad():
            self.rates.log_rates.add_(0.3 * torch.randn_like(self.rates.log_rates))
        self.outer = self.levels.outer
        self.found = {}
        self.outer.optimizer_step, self.outer.scheduler = self._keep, None
        steps = config.inner.steps
        MendedEngine(
            self.levels.problems, EngineConfig(train_iters=steps, strategy="accelerate"), self.levels.dependencies
        ).run()

    def _keep(self):
        self.found = {n: p.grad.clone() for n, p in self.outer.module.named_parameters() if p.grad is not None}

    def vector(self, part="model."):
        return torch.cat([grad.flatten() for name, grad in self.found.items() if name.startswith(part)])


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.fixture
def case(ragged_tasks, tokenizer, float64):
    def make(method, tasks=ragged_tasks, **inner):
        torch.manual_seed(5)
        return Case(tasks, tokenizer, method, **inner)

    return make


def test_forward_over_reverse_is_unrolled(case):
    exact, found = case(Unrolled()), case(ForwardOverReverse())
    assert relative(found.vector(), exact.vector()) < 1e-9
    assert relative(found.vector("rates"), exact.vector("rates")) < 1e-9


FORM_OF_EACH = [(ForwardOverReverse(), "auto"), (Unrolled(), "batched")]


def test_forward_over_reverse_needs_less_memory(case):
    """At N = 8 a lower peak than the graph's, and one that grows less with N, where both hold copies of all tasks."""

    def peak(method, form, steps):
        with AllocatedBytes() as allocated:
            case(method, fast_weights=form, steps=steps)
        return allocated.peak

    swept, unrolled = ([peak(*how, steps) for steps in (1, 8)] for how in FORM_OF_EACH)
    assert swept[1] < 0.8 * unrolled[1]
    assert swept[1] - swept[0] < 0.5 * (unrolled[1] - unrolled[0])


def test_truncation_goes_from_first_order_to_unrolled(case):
    exact, first = case(Unrolled()), case(FirstOrder())
    cuts = [case(Truncated(last_steps=steps)) for steps in range(STEPS + 1)]
    for part in ("model.", "rates"):
        assert relative(cuts[STEPS].vector(part), exact.vector(part)) < 1e-12
        assert relative(cuts[0].vector(part), first.vector(part)) < 1e-12
        errors = [relative(cut.vector(part), exact.vector(part)) for cut in cuts]
        exact_from = STEPS - 1 if part == "rates" else STEPS  # a step's own rate asks nothing of its curvature
        assert min(errors[:exact_from]) > 1e-3  # each cut is another gradient; fewer are not always worse
        assert max(errors[exact_from:]) < 1e-12


# The implicit methods, against a plain computation: one task at a time and with a dense Hessian, for parameters that
# move and for those that do not.


@dataclass
class OneTask:
    """Fast weights of one task, as ``functional_call`` knows them."""

    model: nn.Module
    parameters: dict

    def logits(self, tokens, positions=None):
        given = {"input_ids": tokens[0], "use_cache": False}
        return functional_call(self.model, self.parameters, (), given).logits.unsqueeze(0)


def of_task(rows, task):
    one = slice(task, task + 1)
    return TokenRows(tokens=rows.tokens[one], scored=rows.scored[one], rows=rows.rows[one])


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def descent(phi, gradients, rates, memory):
    """Gradient descent; nothing remembered, and the derivative of a step taken for I."""
    return {name: phi[name] - rates[name] * gradients[name] for name in phi}, {}, dict.fromkeys(phi, 1.0)


def adamw(phi, gradients, rates, memory):
    """AdamW, and the derivative of its step by the gradient as ``Sama`` states it."""
    b1, b2, epsilon = 0.9, 0.999, 1e-8
    moved, kept, derivative = {}, {}, {}
    for name, value in phi.items():
        m, s, t = memory.get(name, (torch.zeros_like(value), torch.zeros_like(value), 0))
        g, t = gradients[name], t + 1
        new_m, new_s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g * g
        direction = new_m / (1 - b1**t) / (new_s / (1 - b2**t) + epsilon**2).sqrt()
        moved[name], kept[name] = value - rates[name] * direction, (new_m, new_s, t)
        derivative[name] = rates[name] * ((1 - b1) * b2 * s - b1 * (1 - b2) * g * m) / (new_s.sqrt() + epsilon) ** 3
    return moved, kept, derivative


def plain(case, moves, apply_inverse, optimizer=descent):
    """theta's hypergradient by name: -(d^2 J / d theta d phi) A v, and the direct part of what does not move."""
    outer, total = case.outer, {}
    theta = {name: p.detach().clone().requires_grad_() for name, p in case.model.named_parameters()}
    moving, still = [n for n in theta if moves(n)], [n for n in theta if not moves(n)]
    for task in range(len(outer.tasks)):
        facts, questions = of_task(outer.knowledge.facts, task), of_task(outer.asked.answers, task)

        def recall(phi, rows, facts=facts):
            return knowledge_nll(nll_of(OneTask(case.model, {**theta, **phi}), facts), facts.scored, rows).sum()

        def objective(phi, recall=recall, facts=facts):
            distance = sum((phi[n] - theta[n]).square().sum() for n in moving)
            return recall(phi, facts.rows) + STRENGTH / 2 * distance

        phi, memory, derivative = {n: theta[n].detach().clone().requires_grad_() for n in moving}, {}, {}
        for k in range(STEPS):
            gradients = dict(zip(moving, torch.autograd.grad(objective(phi), list(phi.values())), strict=True))
            rates = {name: rate.detach() for name, rate in case.rates.at(k).items()}
            phi, memory, derivative = optimizer({n: p.detach() for n, p in phi.items()}, gradients, rates, memory)
            phi = {name: value.requires_grad_() for name, value in phi.items()}
        nll = nll_of(OneTask(case.model, {**theta, **phi}), questions)
        loss = answer_nll(nll, questions.scored, questions.rows).sum()
        loss = (loss + WEIGHT * recall(phi, outer.knowledge.relevant[task : task + 1])) / len(outer.tasks)
        direct = torch.autograd.grad(loss, [*phi.values(), *(theta[n] for n in still)], allow_unused=True)
        v = flat(direct[: len(moving)])
        gradient = flat(torch.autograd.grad(objective(phi), list(phi.values()), create_graph=True))
        rows = [flat(torch.autograd.grad(entry, list(phi.values()), retain_graph=True)) for entry in gradient]
        step = flat(torch.as_tensor(derivative[n]).expand_as(phi[n]) for n in moving)
        solved = apply_inverse(torch.stack(rows), v, step)
        cross = torch.autograd.grad(gradient, list(theta.values()), grad_outputs=-solved, allow_unused=True)
        parts = [*zip(still, direct[len(moving) :], strict=True), *zip(theta, cross, strict=True)]
        for name, part in parts:
            total[name] = total.get(name, 0) + (torch.zeros_like(theta[name]) if part is None else part)
    return total


ADAPT = {"adapt": ["*h.1.mlp.c_proj*", "*ln_f*"]}


def some_move(name):
    return "h.1.mlp.c_proj" in name or "ln_f" in name


def identity(hessian, v, step):
    return v


def solve(hessian, v, step):
    return torch.linalg.solve(hessian, v)


def series(alpha, iterations):
    def apply(hessian, v, step):
        term = total = v
        for _ in range(iterations):
            term = term - alpha * hessian @ term
            total = total + term
        return alpha * total

    return apply


@pytest.mark.parametrize(
    ("method", "inverse", "tolerance"),
    [
        (Darts(), identity, 1e-6),
        (Darts(radius=1e-3), identity, 1e-5),
        (Sama(), identity, 1e-6),
        (Neumann(iterations=0, alpha=0.2), series(0.2, 0), 1e-10),
        (Neumann(iterations=6, alpha=0.3), series(0.3, 6), 1e-10),
        (ConjugateGradient(iterations=60), solve, 1e-8),
        (ConjugateGradient(iterations=60, alpha=0.1), solve, 1e-8),
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),  # without a function's address
)
def test_implicit_methods_equal_a_dense_computation(case, method, inverse, tolerance):
    found = case(method, **ADAPT)
    for name, gradient in plain(found, some_move, inverse).items():
        assert relative(found.found[f"model.{name}"], gradient) < tolerance, name


def test_sama_knows_adamw(case):
    found = case(Sama(), optimizer="adamw", initial_rate=0.01, **ADAPT)
    expected = plain(found, some_move, lambda hessian, v, step: step * v, adamw)
    for name, gradient in expected.items():
        assert relative(found.found[f"model.{name}"], gradient) < 1e-6, name


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.is_implicit])
def test_rates_take_the_first_order_path_or_are_frozen(case, name):
    path, frozen = case(METHODS[name]()), case(METHODS[name](rates="frozen"))
    expected = case(FirstOrder(), proximal=STRENGTH)
    assert relative(path.vector("rates"), expected.vector("rates")) < 1e-10
    assert "rates.log_rates" not in frozen.found
    assert relative(frozen.vector(), path.vector()) < 1e-10
    assert "trained through the first-order path" in path.note
    assert "frozen" in frozen.note


@pytest.mark.parametrize("name", METHODS)
def test_facts_in_several_passes_give_the_same(case, name):
    whole, parts = case(METHODS[name]()), case(METHODS[name](), facts_per_pass=1)
    assert len(encoding_losses(parts.outer.knowledge.facts, 1)) > 1
    for part in ("model.", "rates"):
        assert relative(parts.vector(part), whole.vector(part)) < 1e-9


@pytest.mark.parametrize("name", ["unrolled", "forward_over_reverse", "truncated", "first_order"])
def test_a_sum_over_facts_is_a_larger_rate(case, ragged_tasks, name):
    """For one task with n facts, whatever the method: grad log alpha does not depend on alpha's scale."""
    task = ragged_tasks[1]
    mean = case(METHODS[name](), [task], initial_rate=0.1)
    summed = case(METHODS[name](), [task], initial_rate=0.1 / len(task.facts), reduction="sum")
    for part in ("model.", "rates"):
        assert relative(summed.vector(part), mean.vector(part)) < 1e-9


def test_full_parameter_darts_is_a_scaled_first_order_gradient(case):
    first = case(FirstOrder(), proximal=STRENGTH)
    assert relative(case(Darts()).vector(), STRENGTH * first.vector()) < 1e-6


def test_lora_adapters_can_be_implicit(case):
    first = case(FirstOrder(), proximal=STRENGTH, fast_weights="lora", lora_rank=2)
    found = case(Darts(), fast_weights="lora", lora_rank=2)
    assert relative(found.vector(), STRENGTH * first.vector()) < 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_a_step_changes_what_it_should(case, name):
    found = case(METHODS[name]())
    assert all(torch.isfinite(gradient).all() for gradient in found.found.values())
    assert set(found.found) >= {f"model.{name}" for name, _ in found.model.named_parameters()}
