"""What each strategy makes of a traced bill."""

from dataclasses import replace

import pytest

from reckoning_betty.errors import UserError
from reckoning_betty.planning.bill import GIB, Bill, Traced
from reckoning_betty.planning.strategies import (
    BUCKET,
    STRATEGIES,
    shard_weights,
    strategies_for,
    zero1,
    zero2,
    zero3,
)
from reckoning_betty.planning.table import Row, lines_of

BILL = Bill(
    weights=10 * GIB,
    optimizer=20 * GIB,
    gradients=10 * GIB,
    fast_weights=1 * GIB,
    activations_per_step=5 * GIB,
    peak=70 * GIB,
)
TRACED = Traced(
    bill=BILL,
    form="dual",
    holds_copies=False,
    matrices=8 * GIB,
    trained_matrices=8 * GIB,
    largest_matrix=2 * GIB,
    trained=10 * GIB,
)


def test_one_device_has_one_strategy():
    assert list(strategies_for(1)) == ["one process"]
    assert strategies_for(2) == STRATEGIES


def test_sharded_matrices():
    bill = shard_weights(TRACED, 4)
    assert bill.weights == 4 * GIB  # 8 / 4, and 2 that are no matrices
    assert bill.optimizer == (20 - 0.75 * 16) * GIB
    assert bill.gradients == 4 * GIB
    assert bill.peak == (70 - 0.75 * (8 + 16) + 2) * GIB  # gradients are whole at the peak
    assert shard_weights(replace(TRACED, holds_copies=True), 4).peak == bill.peak + (8 - 2) * GIB


def test_frozen_matrices_have_no_moments_to_share():
    frozen = replace(TRACED, trained_matrices=0, trained=0, bill=replace(BILL, optimizer=0, gradients=0))
    bill = shard_weights(frozen, 2)
    assert (bill.weights, bill.optimizer, bill.gradients) == (6 * GIB, 0, 0)


@pytest.mark.parametrize("form", ["looped", "swept"])
def test_whole_copies_cannot_be_sharded(form):
    with pytest.raises(UserError, match=form):
        shard_weights(replace(TRACED, form=form), 2)


def test_zero_shares_the_moments():
    assert zero1(TRACED, 4).optimizer == (20 / 4 + 10 / 4) * GIB
    assert zero1(TRACED, 4).peak == (70 - 20 + 7.5) * GIB
    assert zero2(TRACED, 4).gradients == 2.5 * GIB
    no_activations = replace(TRACED, bill=replace(BILL, peak=40 * GIB))
    assert zero1(no_activations, 4).peak == (10 + 7.5 + 10 + 10 + 5) * GIB + BUCKET  # DeepSpeed's own step
    assert zero2(no_activations, 4).peak == (10 + 7.5 + 10 + 2.5 + 5) * GIB + BUCKET


def test_zero3_has_weights_of_its_own_besides():
    sharded, bill = shard_weights(TRACED, 4), zero3(TRACED, 4)
    assert (bill.weights, bill.gradients) == (sharded.weights, sharded.gradients)
    assert bill.optimizer == (20 + 2 * 10) / 4 * GIB
    assert bill.peak == sharded.peak - sharded.optimizer + bill.optimizer
    no_activations = replace(TRACED, bill=replace(BILL, peak=30 * GIB))
    assert zero3(no_activations, 4).peak == (4 + 4 + 10 + 2.5) * GIB + BUCKET  # DeepSpeed's own step


@pytest.mark.parametrize(("memory", "fits"), [(90, "yes"), (80, "tight"), (69, "no")])
def test_what_fits(memory, fits):
    assert Row(method="unrolled", strategy="ddp", bill=BILL).fits(memory * GIB) == fits


def test_the_table_says_why_there_is_no_bill():
    rows = [
        Row(method="unrolled", strategy="ddp", bill=BILL),
        Row(method="unrolled", strategy="shard_weights", impossible="not with looped fast weights"),
    ]
    lines = lines_of(rows, 100 * GIB)
    assert lines[2].split() == ["unrolled", "ddp", "10.00", "20.00", "10.00", "1.00", "5.00", "70.00", "yes"]
    assert lines[3].endswith("not with looped fast weights")
    assert rows[1].as_json(1)["impossible"] == "not with looped fast weights"
