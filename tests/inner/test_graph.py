"""The graph of the inner loop: several backward passes over it, what they leave behind, and when it dies."""

import functools
import gc
import weakref

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
from tiny_models import tiny_gpt2

from reckoning_betty.inner.encode import encoding_loss
from reckoning_betty.inner.losses import answer_nll, nll_of
from reckoning_betty.inner.low_rank import LowRank

FORMS = ["dual", "batched", "mixed"]


def outer_loss_of(model, form, checkpoint=False):
    """The outer loss with its graph, its fast weights, and the rates in it."""
    names = all_names(model)
    rates = {name: rate.requires_grad_() for name, rate in some_rates(names, 2).items()}
    facts, asked = padded(FACTS), answered(QUESTIONS)
    fast = plan_of(form, model, names, checkpoint=checkpoint).start(model, len(FACTS))
    for k in range(2):
        alpha = {name: rate[k] for name, rate in rates.items()}
        fast, _ = fast.step(lambda now: encoding_loss(now, facts), alpha, create_graph=True)
    return answer_nll(nll_of(fast, asked), asked.scored, asked.rows).sum(), fast, rates


@functools.cache
def plain_loop_of_two_steps():
    model = tiny_gpt2(VOCABULARY)
    names = all_names(model)
    return plain_loop(model, names, some_rates(names, 2))


@pytest.fixture
def expected(float64):
    return plain_loop_of_two_steps()


def assert_gradients(found, expected):
    for gradient, name in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "checkpoint"])
@pytest.mark.parametrize("form", FORMS)
def test_rates_first_and_then_everything(form, checkpoint, expected):
    model = tiny_gpt2(VOCABULARY)
    loss, _, rates = outer_loss_of(model, form, checkpoint)
    assert_gradients(torch.autograd.grad(loss, list(rates.values()), retain_graph=True), expected.rates)
    loss.backward()
    assert_gradients([parameter.grad for parameter in model.parameters()], expected.parameters)
    assert_gradients([rate.grad for rate in rates.values()], expected.rates)


@pytest.mark.parametrize("form", FORMS)
def test_parameters_first_and_then_everything(form, expected):
    model = tiny_gpt2(VOCABULARY)
    loss, _, rates = outer_loss_of(model, form)
    for name, parameter in list(model.named_parameters())[::4]:  # one at a time
        (found,) = torch.autograd.grad(loss, parameter, retain_graph=True)
        assert_gradients([found], {name: expected.parameters[name]})
    loss.backward()
    assert_gradients([parameter.grad for parameter in model.parameters()], expected.parameters)
    assert_gradients([rate.grad for rate in rates.values()], expected.rates)


@pytest.mark.parametrize("form", FORMS)
def test_backward_twice_over_one_graph(form, expected):
    model = tiny_gpt2(VOCABULARY)
    loss, _, rates = outer_loss_of(model, form)
    for times in (1, 2):
        loss.backward(retain_graph=True)
        assert_gradients([p.grad / times for p in model.parameters()], expected.parameters)
        assert_gradients([rate.grad / times for rate in rates.values()], expected.rates)


@pytest.mark.parametrize("form", FORMS)
def test_two_outer_losses_of_one_inner_loop(form, expected):
    # backpropagated one after the other, as the two terms of the multi-task objective may be
    model = tiny_gpt2(VOCABULARY)
    _, fast, rates = outer_loss_of(model, form)
    asked = answered(QUESTIONS)
    losses = answer_nll(nll_of(fast, asked), asked.scored, asked.rows)
    for b in range(len(QUESTIONS)):
        losses[b].backward(retain_graph=True)
    assert_gradients([p.grad for p in model.parameters()], expected.parameters)
    assert_gradients([rate.grad for rate in rates.values()], expected.rates)


@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "checkpoint"])
@pytest.mark.parametrize("form", FORMS)
def test_a_failed_backward_pass_leaves_nothing_behind(form, checkpoint, expected):
    model = tiny_gpt2(VOCABULARY)
    loss, _, rates = outer_loss_of(model, form, checkpoint)

    def fail(gradient):
        raise ZeroDivisionError

    hook = model.transformer.wpe.weight.register_hook(fail)
    with pytest.raises(ZeroDivisionError):
        loss.backward(retain_graph=True)
    hook.remove()
    found = torch.autograd.grad(loss, [*model.parameters(), *rates.values()])
    assert_gradients(found, expected.parameters | {f"rate {name}": rate for name, rate in expected.rates.items()})


@pytest.mark.parametrize("options", [{}, {"checkpoint": True}], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_a_third_derivative_is_refused(form, options, float64):
    model = tiny_gpt2(VOCABULARY)
    loss, _, _ = outer_loss_of(model, form, **options)
    with pytest.raises(RuntimeError, match="twice differentiable: take the hypergradient without create_graph"):
        torch.autograd.grad(loss, list(model.parameters()), create_graph=True)


def test_forward_over_reverse_refuses_a_third_derivative(float64):
    model = tiny_gpt2(VOCABULARY)
    names = all_names(model)
    rates = {name: rate[0] for name, rate in some_rates(names, 1).items()}
    fast = plan_of("swept", model, names).start(model, len(FACTS))
    facts = padded(FACTS)
    fast, _ = fast.step(lambda now: encoding_loss(now, facts), rates, create_graph=True)
    with pytest.raises(RuntimeError, match="twice differentiable: take the hypergradient without create_graph"):
        torch.autograd.grad(encoding_loss(fast, facts).sum(), list(model.parameters()), create_graph=True)


@pytest.fixture
def uncollected():
    """No cyclic garbage collection: what dies, dies with its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("backward", [False, True], ids=["never differentiated", "differentiated"])
@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "checkpoint"])
@pytest.mark.parametrize("form", FORMS)
def test_the_graph_dies_with_its_last_reference(form, checkpoint, backward, uncollected, float64):
    model = tiny_gpt2(VOCABULARY)
    loss, fast, rates = outer_loss_of(model, form, checkpoint)
    held = [*fast.matrices.values(), *(m.origin for m in fast.matrices.values())]
    held += [chain for m in fast.matrices.values() if isinstance(m, LowRank) for chain, _ in m.segments]
    watched = [weakref.ref(thing) for thing in held]
    if backward:
        loss.backward()
    del held, loss, fast, rates
    assert not [thing for thing in watched if thing() is not None]


def test_the_library_agrees_on_this_batch(expected):
    # guards the tests above, whose batch and rates are those of the plain loop
    model = tiny_gpt2(VOCABULARY)
    names = all_names(model)
    assert_equal(hypergradient_of(model, plan_of("dual", model, names), some_rates(names, 2)), expected, 1e-10)


def test_a_backward_pass_frees_the_factors_unless_it_keeps_its_graph(float64):
    model = tiny_gpt2(VOCABULARY)
    loss, fast, _ = outer_loss_of(model, "dual", checkpoint=True)
    loss.backward(retain_graph=True)
    asked = answered(QUESTIONS)
    fast.logits(asked.inputs)
    chains = {chain for matrix in fast.matrices.values() for chain, _ in matrix.segments}
    assert all(chain.length > 0 for chain in chains)
    loss.backward()
    assert all(chain.length == 0 for chain in chains)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        fast.logits(asked.inputs)
