"""AdamW as a differentiable update: its values are torch's, its derivatives those of central differences."""

import functools

import pytest
import torch
from reference import (
    FACTS,
    QUESTIONS,
    VOCABULARY,
    all_names,
    answered,
    assert_equal,
    hypergradient_of,
    padded,
    plain_loop,
    plan_of,
    some_rates,
)
from tiny_models import tiny_gpt2, tiny_llama

from reckoning_betty.inner.encode import encoding_loss
from reckoning_betty.inner.losses import answer_nll, nll_of
from reckoning_betty.inner.optimizers import AdamW, GradientDescent, optimizer_of
from reckoning_betty.models.adapters import add_adapters

ADAMW = AdamW(beta1=0.7, beta2=0.9, epsilon=0.05, weight_decay=0.2)
"""An epsilon about as large as the gradients, so that its place counts."""
WAYS = {
    "batched": {"form": "batched"},
    "batched, checkpoint": {"form": "batched", "checkpoint": True},
    "looped": {"form": "looped"},
    "looped, checkpoint": {"form": "looped", "checkpoint": True},
}


def written_out(weight, gradient, rate, memory):
    """ADAMW with all of its gradients in hand: means as sums over them."""
    memory.append(gradient)
    t = len(memory)
    mean = sum((1 - 0.7) * 0.7 ** (t - 1 - j) * g for j, g in enumerate(memory)) / (1 - 0.7**t)
    square = sum((1 - 0.9) * 0.9 ** (t - 1 - j) * g**2 for j, g in enumerate(memory)) / (1 - 0.9**t)
    return weight - rate * (mean / (square + 0.05**2) ** 0.5 + 0.2 * weight)


def plan_for(way, model, names, optimizer):
    options = dict(WAYS[way])
    return plan_of(options.pop("form"), model, names, optimizer=optimizer, **options)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.7), (0.0, 0.0)], ids=str)
def test_three_steps_of_adamw_are_those_of_torch(betas, decay, float64):
    torch.manual_seed(1)
    start, gradients = torch.randn(4, 3), torch.randn(3, 4, 3)
    gradients = gradients.sign() * (gradients.abs() + 0.5)  # far above epsilon, which the two put in different places
    rates = [0.3, 0.1, 0.2]
    parameter = torch.nn.Parameter(start.clone())
    torchs = torch.optim.AdamW([parameter], betas=betas, eps=1e-8, weight_decay=decay)
    ours, values, state = AdamW(*betas, 1e-8, decay), start, ()
    for k, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
        torchs.param_groups[0]["lr"] = rate
        parameter.grad = gradient.clone()
        torchs.step()
        values, state = ours.moved(values, gradient, torch.tensor(rate), state, k)
        torch.testing.assert_close(values, parameter.detach(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("optimizer", [ADAMW, AdamW(0.0, 0.0, 0.1), GradientDescent()], ids=str)
@pytest.mark.parametrize("step", [0, 4])
def test_derivatives_of_an_update(optimizer, step, float64):
    torch.manual_seed(2)
    values, gradient, mean = (torch.randn(2, 3).requires_grad_() for _ in range(3))
    square, rate = torch.rand(2, 3).requires_grad_(), torch.tensor(0.3).requires_grad_()

    def update(values, gradient, rate, mean, square):
        moved, state = optimizer.moved(values, gradient, rate, (mean, square) if step else (), step)
        return moved, *state

    assert torch.autograd.gradcheck(update, (values, gradient, rate, mean, square))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_hypergradient_through_adamw_equals_the_plain_loop(make, way, float64_throughout):
    model = make(VOCABULARY)
    names = all_names(model)
    found = hypergradient_of(model, plan_for(way, model, names, ADAMW), some_rates(names))
    assert_equal(found, plain_loop_of(make), 1e-10)


@functools.cache
def plain_loop_of(make, differentiated=None):
    model = make(VOCABULARY)
    names = all_names(model)
    return plain_loop(model, names, some_rates(names), differentiated=differentiated, moved=written_out)


def test_hypergradient_through_adamw_equals_central_differences(float64):
    model = tiny_gpt2(VOCABULARY)
    names = all_names(model)
    rates = some_rates(names)
    found = hypergradient_of(model, plan_for("batched", model, names, ADAMW), rates)
    facts, asked = padded(FACTS), answered(QUESTIONS)

    def outer_loss(rates):
        fast = plan_for("batched", model, names, ADAMW).start(model, len(FACTS))
        for k in range(3):
            alpha = {name: rate[k] for name, rate in rates.items()}
            fast, _ = fast.step(lambda now: encoding_loss(now, facts), alpha, create_graph=False)
        return answer_nll(nll_of(fast, asked), asked.scored, asked.rows).sum().item()

    radius = 1e-6
    generator = torch.Generator().manual_seed(3)
    for name, parameter in list(model.named_parameters())[::5]:
        start, direction = parameter.detach().clone(), torch.randn(parameter.shape, generator=generator)
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(start + sign * radius * direction)
            losses.append(outer_loss(rates))
        with torch.no_grad():
            parameter.copy_(start)
        slope = (losses[0] - losses[1]) / (2 * radius)
        assert (found.parameters[name] * direction).sum().item() == pytest.approx(slope, rel=1e-5, abs=1e-7), name
    for name in names[::7]:
        for k in range(3):
            shift = torch.zeros(3)
            shift[k] = radius
            losses = [outer_loss(rates | {name: rates[name] + sign * shift}) for sign in (1, -1)]
            slope = (losses[0] - losses[1]) / (2 * radius)
            assert found.rates[name][k].item() == pytest.approx(slope, rel=1e-5, abs=1e-7), (name, k)


@pytest.mark.parametrize("differentiated", [0, 1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_truncation_with_adamw(way, differentiated, float64):
    model = tiny_gpt2(VOCABULARY)
    names = all_names(model)
    rates = some_rates(names)
    found = hypergradient_of(model, plan_for(way, model, names, ADAMW), rates, differentiated=differentiated)
    assert_equal(found, plain_loop_of(tiny_gpt2, differentiated), 1e-10)


def test_an_update_by_a_zero_gradient_has_finite_derivatives(float64):
    values, gradient = torch.randn(3).requires_grad_(), torch.zeros(3).requires_grad_()
    rate = torch.tensor(0.1).requires_grad_()
    moved, state = AdamW().moved(values, gradient, rate, (), 0)
    moved, _ = AdamW().moved(moved, gradient, rate, state, 1)
    assert torch.equal(moved, values)
    for derivative in torch.autograd.grad(moved.sum(), [values, gradient, rate]):
        assert derivative.isfinite().all()


@pytest.mark.parametrize("way", WAYS)
def test_unread_embeddings_have_finite_hypergradients(way):
    # rows of tokens and positions that no fact holds have inner gradients of exactly 0; default options, float32
    model = tiny_gpt2(VOCABULARY, tie_word_embeddings=False)
    names = all_names(model)
    found = hypergradient_of(model, plan_for(way, model, names, AdamW()), some_rates(names, low=1e-4, high=1e-3))
    assert all(gradient.isfinite().all() for gradient in found.tensors.values())
    assert found.outer_loss.isfinite()


@pytest.mark.parametrize("way", WAYS)
def test_adapters_at_their_start_have_finite_hypergradients(way):
    # while B = 0, all of A has inner gradients of exactly 0
    model = tiny_gpt2(VOCABULARY)
    add_adapters(model, rank=2, alpha=4.0, targets=["all-linear"])
    names = all_names(model)
    assert all(not parameter.any() for name, parameter in model.named_parameters() if "lora_B" in name)
    found = hypergradient_of(model, plan_for(way, model, names, AdamW()), some_rates(names, low=1e-4, high=1e-3))
    assert all(gradient.isfinite().all() for gradient in found.tensors.values())
    assert any(gradient.any() for gradient in found.tensors.values())


@pytest.mark.parametrize("optimizer", [GradientDescent(), ADAMW], ids=str)
def test_an_optimizer_is_made_again_from_its_description(optimizer):
    assert optimizer_of(optimizer.describe()) == optimizer


@pytest.mark.parametrize(
    "description", [{}, {"name": "adam"}, {"name": "sgd", "beta1": 0.9}, {"name": "adamw", "x": 1}]
)
def test_a_description_of_nothing_is_refused(description):
    with pytest.raises((ValueError, TypeError)):
        optimizer_of(description)
