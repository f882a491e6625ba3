"""Norm, activation and attention with derivatives written out, against torch's."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from transformers.activations import NewGELUActivation

from reckoning_betty.inner.attention import attention
from reckoning_betty.inner.smooth import gelu, layer_norm

EPSILONS = [1e-5, 0.3]
SHAPES = [(2, 4), (4, 3, 5), (2, 3, 2, 7)]
B = 2


def some(*shape, scale=0.7, shift=0.4):
    torch.manual_seed(1)
    return (torch.randn(shape, dtype=torch.float64) * scale + shift).requires_grad_()


def norm_arguments(shape):
    return some(*shape), some(B, shape[-1], shift=1.0), some(B, shape[-1], scale=0.2)


def torchs_norm(x, weight, bias, eps):
    """Task by task."""
    pairs = zip(x.chunk(B), weight, bias, strict=True)
    return torch.cat([F.layer_norm(rows, rows.shape[-1:], w, b, eps) for rows, w, b in pairs])


def assert_both_derivatives_agree(ours, torchs, inputs):
    """Of a product with fixed numbers, first; of a product of these, second."""
    torch.manual_seed(2)
    found = []
    y = ours(*inputs)
    g = torch.randn_like(y).requires_grad_()
    cotangents = [torch.randn_like(tensor) for tensor in inputs]
    for function in (ours, torchs):
        y = function(*inputs)
        first = torch.autograd.grad(y, inputs, g, create_graph=True)
        second = torch.autograd.grad(first, (*inputs, g), cotangents, allow_unused=True, materialize_grads=True)
        found.append((y, *first, *second))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("eps", EPSILONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layer_norm_is_that_of_torch(shape, eps):
    inputs = norm_arguments(shape)
    assert_both_derivatives_agree(
        lambda x, w, b: layer_norm(x, w, b, eps), lambda x, w, b: torchs_norm(x, w, b, eps), inputs
    )


@pytest.mark.parametrize("eps", EPSILONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_derivatives_of_layer_norm(shape, eps):
    inputs = norm_arguments(shape)
    assert gradcheck(lambda x, w, b: layer_norm(x, w, b, eps), inputs)
    assert gradgradcheck(lambda x, w, b: layer_norm(x, w, b, eps), inputs)


@pytest.mark.parametrize("fixed", [0, 1, 2], ids=["x", "weight", "bias"])
def test_derivatives_of_layer_norm_where_one_input_is_fixed(fixed):
    inputs = [tensor.detach() if i == fixed else tensor for i, tensor in enumerate(norm_arguments((2, 3, 5)))]
    assert gradcheck(lambda x, w, b: layer_norm(x, w, b, 1e-5), inputs)
    assert gradgradcheck(lambda x, w, b: layer_norm(x, w, b, 1e-5), inputs)


def test_gelu_is_that_of_torch():
    x = torch.cat([torch.linspace(-6, 6, 49), torch.tensor([-60.0, -1e-3, 0.0, 1e-3, 60.0])])
    x = x.double().requires_grad_()
    assert_both_derivatives_agree(gelu, lambda x: F.gelu(x, approximate="tanh"), (x,))
    assert_both_derivatives_agree(gelu, NewGELUActivation(), (x,))
    assert gradgradcheck(gelu, x)


def masks(rows, tokens):
    causal = torch.full((tokens, tokens), torch.finfo(torch.float64).min, dtype=torch.float64).triu(1)
    return {"none": None, "causal": causal[None, None], "one per row": causal.expand(rows, 1, tokens, tokens)}


@pytest.mark.parametrize("key_heads", [1, 2])
@pytest.mark.parametrize("mask", ["none", "causal", "one per row"])
def test_attention_is_that_of_torch(mask, key_heads):
    rows, heads, tokens, width = 2, 2, 4, 3
    q = some(rows, heads, tokens, width)
    k, v = (t.clone().requires_grad_() for t in some(2, rows, key_heads, tokens, width, scale=0.9).detach())
    added = masks(rows, tokens)[mask]

    def torchs(q, k, v):
        scores = torch.einsum("rhtd,rhsd->rhts", q, k.expand_as(q)) * 0.6
        p = F.softmax(scores if added is None else scores + added, dim=-1)
        return torch.einsum("rhts,rhsd->rthd", p, v.expand_as(q))

    def ours(q, k, v):
        return attention(torch.nn.Module(), q, k, v, added, scaling=0.6)[0]

    assert_both_derivatives_agree(ours, torchs, (q, k, v))
    assert gradcheck(ours, (q, k, v))
    assert gradgradcheck(ours, (q, k, v))
