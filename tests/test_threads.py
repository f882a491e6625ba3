import os

import pytest
import torch

from reckoning_betty import threads


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})


def test_large_models_take_every_core_unmeasured(four_cores, monkeypatch):
    monkeypatch.setattr(threads, "_seconds_of_small_operations", lambda count: pytest.fail("measured"))
    assert threads.choose_threads(threads.SMALL + 1) == 4


@pytest.mark.parametrize("fastest", [1, 2, 4])
def test_small_models_take_what_is_fastest_in_the_median(four_cores, monkeypatch, fastest):
    disturbed = iter([True] * 3 + [False] * 99)  # the first round is slow for all

    def seconds(count):
        return 9.0 if next(disturbed) else 1.0 if count == fastest else 2.0

    monkeypatch.setattr(threads, "_seconds_of_small_operations", seconds)
    assert threads.choose_threads(100_000) == fastest


def test_measuring_leaves_the_setting_alone():
    before = torch.get_num_threads()
    assert threads._seconds_of_small_operations(before + 1) > 0
    assert torch.get_num_threads() == before
