"""The ledger counts what lives, and answers for values that are not there."""

import pytest
import torch

from reckoning_betty.planning.ledger import Ledger

META = torch.device("meta")


def test_counts_storages_while_they_are_referred_to():
    with Ledger() as ledger:
        a = torch.empty(1000, device=META)
        view = a.view(10, 100).mT
        assert ledger.held == 4000
        b = (a + 1).double()  # the float sum lives until it is converted
        assert ledger.peak == 4000 + 4000 + 8000
        assert ledger.held == 4000 + 8000
        del a
        assert ledger.held == 4000 + 8000  # the view keeps it
        del view, b
        assert ledger.held == 0
        assert ledger.peak == 16000
        ledger.forget_peak()
        assert ledger.peak == 0


def test_counts_what_autograd_keeps_and_frees():
    with Ledger() as ledger:
        x = torch.empty(100, 10, device=META, requires_grad=True)
        y = x.exp().sin()  # keeps exp's result, twice referred to, and sin's
        assert ledger.held == 3 * 4000
        y.sum().backward()
        assert x.grad.shape == x.shape
        del y
        assert ledger.held == 2 * 4000  # x and its gradient


def test_in_place_operations_make_nothing():
    with Ledger() as ledger:
        a = torch.empty(100, device=META)
        a.add_(1).mul_(2)
        assert ledger.held == ledger.peak == 400


def test_real_tensors_have_no_values_beside_such_without():
    with Ledger() as ledger:
        found = torch.empty(50, 8, device=META)[torch.tensor([1, 2, 3])]
        assert found.is_meta
        assert found.shape == (3, 8)
        assert torch.tensor([2.0]).item() == 2.0  # alone they keep them
        assert ledger.peak >= 50 * 8 * 4 + 3 * 8 * 4


def test_guards_hear_that_all_is_well():
    with Ledger():
        a = torch.empty(3, device=META)
        assert torch.isfinite(a).all()
        assert torch.allclose(a, a)
        assert a.sum().item() == 1.0
        assert a.to("cpu").is_meta
    with pytest.raises(RuntimeError, match="meta"):
        a.sum().item()
