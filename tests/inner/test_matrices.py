"""Both ways of holding a matrix against matrices written out, forward and backward."""

import pytest
import torch
import torch.nn.functional as F

from reckoning_betty.inner.low_rank import LowRank
from reckoning_betty.inner.matrices import Origin, Rows
from reckoning_betty.inner.products import Anchor, Product, TransposedProduct, Update
from reckoning_betty.inner.stacked import Stacked

B, OUT, IN = 2, 5, 3
KINDS = [LowRank, Stacked]
FORMS = ["dual", "batched", "mixed"]


def rows_of(ids):
    """Ids [B, n] as the one-hot rows [B, n, OUT] that they stand for."""
    return F.one_hot(ids, OUT).to(torch.get_default_dtype())


@pytest.fixture
def outer_products(float64):
    """Three steps' worth: dense rows, ids (one twice), and both, with different numbers of rows."""
    torch.manual_seed(1)
    ids = torch.tensor([[0, 3, 3, 1], [4, 4, 2, 4]])

    def dense(n):
        return Rows(torch.randn(B, n, OUT)), torch.randn(B, n, IN)

    return [[dense(2)], [(Rows(ids), torch.randn(B, 4, IN))], [dense(3), (Rows(ids[:, :2]), torch.randn(B, 2, IN))]]


def written_out(left):
    return rows_of(left.values) if left.one_hot else left.values


@pytest.fixture(params=[False, True], ids=["linear", "conv1d"])
def parameter(request, float64):
    """theta_0 in the layout of nn.Linear and of Conv1D, with whether it is the latter."""
    torch.manual_seed(2)
    shape = (IN, OUT) if request.param else (OUT, IN)
    return torch.nn.Parameter(torch.randn(shape)), request.param


def matrix_of(parameter):
    weight, transposed = parameter
    return weight.mT if transposed else weight


@pytest.mark.parametrize("kind", KINDS)
def test_products_after_every_step(kind, parameter, outer_products):
    held = kind(Origin(*parameter), B)
    written = matrix_of(parameter).detach().expand(B, OUT, IN)
    x, g, ids = torch.randn(B, 6, IN), torch.randn(B, 6, OUT), torch.randint(OUT, (B, 6))
    for pairs in [[], *outer_products]:
        held = held.minus(pairs)
        for left, right in pairs:
            written = written - torch.einsum("bno,bni->boi", written_out(left), right)
        torch.testing.assert_close(held.product(x), torch.einsum("bni,boi->bno", x, written))
        torch.testing.assert_close(held.transposed_product(Rows(g)), torch.einsum("bno,boi->bni", g, written))
        found = held.transposed_product(Rows(ids))
        torch.testing.assert_close(found, torch.einsum("bno,boi->bni", rows_of(ids), written))


@pytest.mark.parametrize("kind", KINDS)
def test_minus_leaves_the_earlier_matrix_as_it_was(kind, parameter, outer_products):
    held, x = kind(Origin(*parameter), B), torch.randn(B, 6, IN)
    kept = [held]
    for pairs in outer_products:
        kept.append(kept[-1].minus(pairs))
    before = [matrix.product(x) for matrix in kept]
    again = kept[1].minus([(Rows(torch.randn(B, 2, OUT)), torch.randn(B, 2, IN))])
    for matrix, y in zip(kept, before, strict=True):
        torch.testing.assert_close(matrix.product(x), y, rtol=0, atol=0)
    assert not torch.allclose(again.product(x), kept[2].product(x))


@pytest.mark.parametrize(("one_hot", "other_hot"), [(False, False), (False, True), (True, False), (True, True)])
def test_rows_of_either_kind(one_hot, other_hot, float64):
    torch.manual_seed(3)
    first = Rows(torch.randint(OUT, (B, 7)) if one_hot else torch.randn(B, 7, OUT))
    other = Rows(torch.randint(OUT, (B, 4)) if other_hot else torch.randn(B, 4, OUT))
    expected = torch.einsum("bno,bmo->bnm", written_out(first), written_out(other))
    torch.testing.assert_close(first.gram(other, torch.float64), expected)
    target, coefficients = torch.randn(B, 6, OUT), torch.randn(B, 6, 7)
    expected = target - torch.einsum("bmn,bno->bmo", coefficients, written_out(first))
    first.subtract_combined(target, coefficients)
    torch.testing.assert_close(target, expected)


def moved_by(pairs, token, matrix):
    """M_{k+1} and its token, as ``OnePassWeights.step`` makes them."""
    detached = [(Rows(left.values.detach()), right.detach()) for left, right in pairs]
    new = matrix.minus(detached)
    flat = [tensor for left, right in pairs for tensor in (left.values, right)]
    return Update.apply(token, new, matrix, *flat), new


def leaves_of(outer_products):
    """The same outer products made of leaves, and those leaves."""
    pairs = [
        [
            (left if left.one_hot else Rows(left.values.clone().requires_grad_()), right.clone().requires_grad_())
            for left, right in step
        ]
        for step in outer_products
    ]
    flat = [tensor for step in pairs for left, right in step for tensor in (left.values, right)]
    return pairs, [tensor for tensor in flat if tensor.requires_grad]


def held_loss(kind, parameter, pairs, x, bias, g, ids, weights):
    """A loss that uses M_0 to M_3 in every way, through what the library holds."""
    origin = Origin(*parameter)
    token, matrix, total = Anchor.apply(parameter[0], origin), kind(origin, B), 0.0
    for k in range(len(pairs) + 1):
        products = (
            Product.apply(x, bias, token, matrix),
            TransposedProduct.apply(g, token, matrix),
            TransposedProduct.apply(ids, token, matrix),
        )
        total = total + sum((w[k] * y).sum() for w, y in zip(weights, products, strict=True))
        if k < len(pairs):
            token, matrix = moved_by(pairs[k], token, matrix)
    return total


def written_loss(parameter, pairs, x, bias, g, ids, weights):
    written, total = matrix_of(parameter).expand(B, OUT, IN), 0.0
    for k in range(len(pairs) + 1):
        products = (
            torch.einsum("bni,boi->bno", x, written) + bias.unsqueeze(1),
            torch.einsum("bno,boi->bni", g, written),
            torch.einsum("bno,boi->bni", rows_of(ids), written),
        )
        total = total + sum((w[k] * y).sum() for w, y in zip(weights, products, strict=True))
        if k < len(pairs):
            for left, right in pairs[k]:
                written = written - torch.einsum("bno,bni->boi", written_out(left), right)
    return total


@pytest.fixture
def used(outer_products):
    """x, bias, g, ids, and the weights of the outputs of every step."""
    n = 6
    x, bias = torch.randn(B, n, IN).requires_grad_(), torch.randn(B, OUT).requires_grad_()
    g, ids = torch.randn(B, n, OUT).requires_grad_(), torch.randint(OUT, (B, n))
    steps = len(outer_products) + 1
    weights = torch.randn(steps, B, n, OUT), torch.randn(steps, B, n, IN), torch.randn(steps, B, n, IN)
    return x, bias, g, ids, weights


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("worth_a_copy", [0, 2**18], ids=["freed at once", "freed in the end"])
@pytest.mark.parametrize("kind", KINDS)
def test_cotangents_of_everything(kind, parameter, outer_products, used, worth_a_copy, monkeypatch):
    monkeypatch.setattr("reckoning_betty.inner.low_rank.WORTH_A_COPY", worth_a_copy)
    pairs, factors = leaves_of(outer_products)
    inputs = [parameter[0], *used[:3], *factors]
    expected = torch.autograd.grad(written_loss(parameter, pairs, *used), inputs)
    found = torch.autograd.grad(held_loss(kind, parameter, pairs, *used), inputs)
    assert found[0].shape == parameter[0].shape
    assert_same(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_backward_pass_gives_the_same_again(kind, parameter, outer_products, used):
    pairs, factors = leaves_of(outer_products)
    inputs = [parameter[0], *used[:3], *factors]
    expected = torch.autograd.grad(written_loss(parameter, pairs, *used), inputs)
    loss = held_loss(kind, parameter, pairs, *used)
    for _ in range(3):
        assert_same(torch.autograd.grad(loss, inputs, retain_graph=True), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_passes_for_different_inputs_do_not_mix(kind, parameter, outer_products, used):
    pairs, factors = leaves_of(outer_products)
    inputs = [parameter[0], *used[:3], *factors]
    expected = torch.autograd.grad(written_loss(parameter, pairs, *used), inputs)
    loss = held_loss(kind, parameter, pairs, *used)
    for some in (range(1, 4), range(4, len(inputs)), range(1), range(len(inputs)), [2], [len(inputs) - 1], range(1)):
        found = torch.autograd.grad(loss, [inputs[i] for i in some], retain_graph=True)
        assert_same(found, [expected[i] for i in some])


@pytest.mark.parametrize("kind", KINDS)
def test_many_tokens_are_gathered_in_several_products(kind, parameter, float64, monkeypatch):
    monkeypatch.setattr("reckoning_betty.inner.matrices.PENDING_ELEMENTS", 8 * (IN + OUT))
    torch.manual_seed(4)
    origin, total, expected = Origin(*parameter), 0.0, 0.0
    token, matrix = Anchor.apply(parameter[0], origin), kind(origin, B)
    for n in (1, 3, 2, 9, 1):
        x, w = torch.randn(B, n, IN), torch.randn(B, n, OUT)
        total = total + (Product.apply(x, None, token, matrix) * w).sum()
        expected = expected + torch.einsum("bno,bni->oi", w, x)
    (found,) = torch.autograd.grad(total, parameter[0])
    torch.testing.assert_close(found, expected.mT if parameter[1] else expected)


@pytest.mark.parametrize("kind", KINDS)
def test_two_continuations_of_one_state(kind, parameter, outer_products, used):
    x, weights = used[0], used[4]
    pairs, factors = leaves_of(outer_products)
    first, left_branch, right_branch = pairs

    def branched(start, move, product):
        state = move(first, *start)
        ends = [move(left_branch, *state), move(right_branch, *state)]  # the second after the first went on
        ends.append(move(right_branch, *ends[0]))
        return sum((weights[0][k] * product(*end)).sum() for k, end in enumerate([state, *ends]))

    def written_move(step, written):
        for left, right in step:
            written = written - torch.einsum("bno,bni->boi", written_out(left), right)
        return (written,)

    origin = Origin(*parameter)
    found = branched(
        (Anchor.apply(parameter[0], origin), kind(origin, B)),
        moved_by,
        lambda token, matrix: Product.apply(x, None, token, matrix),
    )
    expected = branched(
        (matrix_of(parameter).expand(B, OUT, IN),), written_move, lambda m: torch.einsum("bni,boi->bno", x, m)
    )
    torch.testing.assert_close(found, expected)
    inputs = [parameter[0], x, *factors]
    assert_same(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs))


def test_a_chain_grows_in_place_and_another_begins_where_a_step_went_on(parameter, float64):
    def pair():
        return Rows(torch.randn(B, 2, OUT)), torch.randn(B, 2, IN)

    start = LowRank(Origin(parameter[0], False), B, num_steps=2)
    first = start.minus([pair()])
    place = first.segments[0][0].factors(2)[1].data_ptr()
    longer = first.minus([pair()])
    assert longer.segments == ((first.segments[0][0], 4),)
    assert longer.segments[0][0].factors(4)[1].data_ptr() == place
    fork = first.minus([pair()])
    assert fork.segments[0] == first.segments[0]
    assert fork.segments[1][0] is not first.segments[0][0]
    assert fork.segments[1][1] == 2
