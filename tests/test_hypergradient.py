"""The hypergradient of a run through Betty's engine, against a plain loop and against central differences."""

import pytest
import torch
import torch.nn.functional as F
from betty.configs import EngineConfig
from tiny_models import MODELS
from torch.func import functional_call
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from problems.methods import build_levels
from reckoning_betty.config import InnerConfig, RunConfig, TrainingConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.task import StoredTasks
from reckoning_betty.inner.rates import GRANULARITIES
from reckoning_betty.mended_betty import MendedEngine
from reckoning_betty.models.causal_lm import layer_names

STEPS = 3


def run_one_outer_step(
    model, tasks, tokenizer, form="batched", rates="per_step_per_layer", objective="multi", term="facts"
):
    """One outer step through the engine; the hypergradient by name, as it reaches the optimizer, and the rates."""
    config = RunConfig(
        problem="test",
        objective=objective,
        knowledge_weight=0.7,
        knowledge_term=term,
        inner=InnerConfig(steps=STEPS, initial_rate=0.3, fast_weights=form, rates=rates),
        reckoning=TrainingConfig(steps=1, tasks_per_step=len(tasks), clip_norm=0.0),
    )
    source = StoredTasks(tasks=tasks, seed=1)
    levels = build_levels("reckoning", config, model, source, TaskEncoder(tokenizer, Prompts()))
    with torch.no_grad():  # unequal rates, so that a mix-up of steps or layers shows
        levels.rates.log_rates.add_(0.3 * torch.randn_like(levels.rates.log_rates))
    hypergradient = {}
    module, step = levels.outer.module, levels.outer.optimizer_step

    def keep_and_step():
        hypergradient.update({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})
        step()

    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    levels.outer.optimizer_step = keep_and_step
    engine = MendedEngine(
        levels.problems, EngineConfig(train_iters=STEPS, valid_step=STEPS, strategy="accelerate"), levels.dependencies
    )
    engine.run()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(before[name])
    return hypergradient, levels.rates


def rate_of(rates, log_rates, name, layer, step):
    """alpha[l, k] spelled out for each granularity, apart from ``InnerRates``."""
    row = {"per_tensor": name, "per_step": "all layers", "static": "all layers"}.get(rates.granularity, layer)
    column = 0 if rates.granularity in ("per_layer", "static") else step
    return log_rates[rates.row_names.index(row), column].exp()


def plain_loss(
    model, tasks, tokenizer, parameters, rates, log_rates, knowledge_weight, second_order=True, term="facts"
):
    """The outer loss as DESIGN.md section 1 writes it: one task, one fact, one question at a time, nothing padded."""
    layers = layer_names(model)

    def nll(fast, ids):
        logits = functional_call(model, fast, (), {"input_ids": torch.tensor([ids]), "use_cache": False}).logits[0]
        return F.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none")

    def knowledge(fast, facts):
        return sum(nll(fast, tokenizer(fact)["input_ids"]).mean() for fact in facts) / len(facts)

    total = 0.0
    for task in tasks:
        fast = dict(parameters)
        for k in range(STEPS):
            gradients = torch.autograd.grad(knowledge(fast, task.facts), list(fast.values()), create_graph=second_order)
            fast = {
                name: weight - rate_of(rates, log_rates, name, layers[name], k) * gradient
                for (name, weight), gradient in zip(fast.items(), gradients, strict=True)
            }
        answer, behind = 0.0, 0.0
        for question in task.questions:
            x = tokenizer(question.text)["input_ids"]
            y = [*tokenizer(question.answer)["input_ids"], tokenizer.eos_token_id]
            answer = answer + nll(fast, x + y)[len(x) - 1 :].sum()
            facts = " because " + "\n".join(task.facts[fact] for fact in question.relevant)
            z = [*tokenizer(facts)["input_ids"], tokenizer.eos_token_id]
            behind = behind + nll(fast, x + y + z)[len(x + y) - 1 :].mean()
        relevant = sorted({fact for question in task.questions for fact in question.relevant})
        recall = knowledge(fast, [task.facts[fact] for fact in relevant])
        behind = behind / len(task.questions)
        recall = {"facts": recall, "because": behind, "both": recall + behind}[term]
        total = total + answer / len(task.questions) + knowledge_weight * recall
    return total / len(tasks)


def relative_error(a, b):
    return ((a - b).norm() / b.norm().clamp(min=1e-12)).item()


@pytest.fixture
def float64_throughout(float64, monkeypatch):
    """Llama's norms and softmax compute in float32 whatever the weights are, which differences of 1e-6 cannot bear."""

    def norm(module, x):
        return module.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + module.variance_epsilon)

    monkeypatch.setattr(LlamaRMSNorm, "forward", norm)
    softmax = F.softmax
    monkeypatch.setattr(F, "softmax", lambda x, dim, dtype=None: softmax(x, dim))


@pytest.mark.parametrize("form", ["dual", "batched", "looped"])
@pytest.mark.parametrize("architecture", MODELS)
def test_equals_a_plain_loop(architecture, form, ragged_tasks, tokenizer, float64_throughout):
    model = MODELS[architecture](len(tokenizer))
    found, rates = run_one_outer_step(model, ragged_tasks, tokenizer, form)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    log_rates = rates.log_rates.detach().clone().requires_grad_()
    loss = plain_loss(model, ragged_tasks, tokenizer, parameters, rates, log_rates, 0.7)
    expected = torch.autograd.grad(loss, [*parameters.values(), log_rates])
    for name, gradient in zip([*(f"model.{n}" for n in parameters), "rates.log_rates"], expected, strict=True):
        assert relative_error(found[name], gradient) < 1e-11, name


@pytest.mark.parametrize("term", ["because", "both"])
@pytest.mark.parametrize("form", ["dual", "looped"])
def test_facts_recalled_behind_the_answers_equal_a_plain_loop(form, term, ragged_tasks, tokenizer, float64):
    model = MODELS["gpt2"](len(tokenizer))
    found, rates = run_one_outer_step(model, ragged_tasks, tokenizer, form, term=term)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    log_rates = rates.log_rates.detach().clone().requires_grad_()
    loss = plain_loss(model, ragged_tasks, tokenizer, parameters, rates, log_rates, 0.7, term=term)
    expected = torch.autograd.grad(loss, [*parameters.values(), log_rates])
    for name, gradient in zip([*(f"model.{n}" for n in parameters), "rates.log_rates"], expected, strict=True):
        assert relative_error(found[name], gradient) < 1e-11, name


@pytest.mark.parametrize("architecture", MODELS)
def test_equals_central_differences(architecture, ragged_tasks, tokenizer, float64_throughout):
    model = MODELS[architecture](len(tokenizer))
    found, rates = run_one_outer_step(model, ragged_tasks, tokenizer)
    names = [name for name, _ in model.named_parameters()]
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    log_rates = rates.log_rates.detach()
    radius = 1e-6  # error about radius^2 times the third derivative, and rounding of 1e-16 / radius

    def loss_at(parameters, rho):
        leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
        return plain_loss(model, ragged_tasks, tokenizer, leaves, rates, rho, 0.7).item()

    for row, column in torch.cartesian_prod(*map(torch.arange, log_rates.shape)).tolist():  # every rate
        shift = torch.zeros_like(log_rates)
        shift[row, column] = radius
        slope = (loss_at(start, log_rates + shift) - loss_at(start, log_rates - shift)) / (2 * radius)
        assert found["rates.log_rates"][row, column].item() == pytest.approx(slope, rel=1e-6, abs=1e-8)
    generator = torch.Generator().manual_seed(3)
    for name in names:  # one random direction for every weight tensor
        direction = torch.randn(start[name].shape, generator=generator)
        moved = [start | {name: start[name] + sign * radius * direction} for sign in (1, -1)]
        slope = (loss_at(moved[0], log_rates) - loss_at(moved[1], log_rates)) / (2 * radius)
        assert (found[f"model.{name}"] * direction).sum().item() == pytest.approx(slope, rel=1e-6, abs=1e-8), name


@pytest.mark.parametrize("granularity", [g for g in GRANULARITIES if g != "static"])
def test_every_granularity_gets_its_own_gradient(granularity, ragged_tasks, tokenizer, float64):
    model = MODELS["gpt2"](len(tokenizer))
    found, rates = run_one_outer_step(model, ragged_tasks, tokenizer, rates=granularity)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    log_rates = rates.log_rates.detach().clone().requires_grad_()
    loss = plain_loss(model, ragged_tasks, tokenizer, parameters, rates, log_rates, 0.7)
    (expected,) = torch.autograd.grad(loss, [log_rates])
    assert relative_error(found["rates.log_rates"], expected) < 1e-11


def test_static_rates_are_not_trained(ragged_tasks, tokenizer, float64):
    found, rates = run_one_outer_step(MODELS["gpt2"](len(tokenizer)), ragged_tasks, tokenizer, rates="static")
    assert "rates.log_rates" not in found
    assert not rates.log_rates.requires_grad


def test_single_task_objective_leaves_the_recall_term_out(ragged_tasks, tokenizer, float64):
    model = MODELS["gpt2"](len(tokenizer))
    found, rates = run_one_outer_step(model, ragged_tasks, tokenizer, objective="single")
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    loss = plain_loss(model, ragged_tasks, tokenizer, parameters, rates, rates.log_rates.detach(), 0.0)
    expected = torch.autograd.grad(loss, list(parameters.values()))
    for name, gradient in zip(parameters, expected, strict=True):
        assert relative_error(found[f"model.{name}"], gradient) < 1e-11, name


def test_first_order_is_another_gradient(ragged_tasks, tokenizer, float64):
    # guards the tests above: were the second-order terms negligible here, they could not see them missing
    model = MODELS["gpt2"](len(tokenizer))
    found, rates = run_one_outer_step(model, ragged_tasks, tokenizer)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    log_rates = rates.log_rates.detach()
    loss = plain_loss(model, ragged_tasks, tokenizer, parameters, rates, log_rates, 0.7, second_order=False)
    first_order = torch.autograd.grad(loss, list(parameters.values()))
    errors = [relative_error(found[f"model.{n}"], g) for n, g in zip(parameters, first_order, strict=True)]
    assert min(errors) > 0.01
