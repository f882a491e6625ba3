"""Mends 6 to 8 do right, and Betty's own classes still fail as described: early stopping, validation, going on."""

import io

import pytest
import torch
from betty.configs import EngineConfig
from betty.engine import Engine
from betty.misc.early_stopping import EarlyStopping
from levels import ALONE, MendedLine, MendedRecorder, StockLine, StockRecorder, line_problem, two_levels

from reckoning_betty.mended_betty import MendedEarlyStopping, MendedEngine

# 6. early stopping


@pytest.mark.parametrize(("mode", "scores"), [("min", [3.0, 2.0, 2.5, 2.0, 1.0]), ("max", [1.0, 2.0, 1.5, 2.0, 3.0])])
def test_early_stopping_waits_for_its_tolerance(mode, scores):
    stopping = MendedEarlyStopping("loss", 2, mode)
    assert [stopping({"loss": score}) for score in scores] == [False, False, False, True, False]


def test_early_stopping_state_goes_on():
    stopping, restored = (MendedEarlyStopping("loss", 2, "min") for _ in range(2))
    for score in (1.0, 2.0):
        stopping({"loss": score})
    restored.load_state_dict(stopping.state_dict())
    assert restored({"loss": 1.5})
    assert not MendedEarlyStopping("loss", 2, "min")({"loss": 1.5})


def early_stopping_config() -> EngineConfig:
    return EngineConfig(train_iters=9, valid_step=1, strategy="cpu", early_stopping=True, early_stopping_tolerance=2)


def test_engine_stops_early():
    engine = MendedRecorder([line_problem(MendedLine)], early_stopping_config(), ALONE)
    engine.losses = iter([3.0, 2.0, 2.0, 2.0])
    engine.run()
    assert engine.global_step == 4
    assert engine.events[-1] == ("end", 4)  # the state after the stop can be saved


def test_betty_early_stopping_has_no_patience():
    with pytest.raises(AttributeError, match="patience"):
        EarlyStopping("loss", 2, "min")({"loss": 1.0})
    engine = StockRecorder([line_problem(StockLine)], early_stopping_config(), ALONE)
    with pytest.raises(AttributeError, match="patience"):
        engine.run()


# 7. validation on every rank


def second_rank(kind: type, problem: type) -> list[tuple[str, int]]:
    engine = kind([line_problem(problem)], EngineConfig(train_iters=2, valid_step=2, strategy="cpu"), ALONE)
    engine._rank = 1
    engine.run()
    return engine.steps("validation")


def test_every_rank_validates():
    assert second_rank(MendedRecorder, MendedLine) == [2]


def test_betty_validates_on_rank_0_only():
    assert second_rank(StockRecorder, StockLine) == []


def test_no_validation_is_asked_of_an_engine_without_one():
    engine = MendedEngine([line_problem(MendedLine)], EngineConfig(train_iters=2, valid_step=1, strategy="cpu"), ALONE)
    engine.run()
    assert engine.global_step == 2


# 8. going on from a saved step


class Saver(MendedRecorder):
    """Saves its state once, at the end of iteration ``save_at``."""

    def iteration_end(self) -> None:
        super().iteration_end()
        if self.global_step == getattr(self, "save_at", None):
            self.saved = io.BytesIO()
            torch.save(self.state_dict(), self.saved)


def two_level_engine(iterations: int) -> Saver:
    problems, dependencies = two_levels(steps=3)
    config = EngineConfig(
        train_iters=iterations, valid_step=6, strategy="cpu", early_stopping=True, early_stopping_tolerance=9
    )
    return Saver(problems, config, dependencies)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit():
    whole = two_level_engine(15)
    whole.save_at = 9
    whole.run()
    whole.saved.seek(0)

    resumed = two_level_engine(15)
    resumed.load_state_dict(torch.load(whole.saved, weights_only=True))
    assert resumed.global_step == 9
    assert not torch.equal(resumed.outer.module.theta, whole.outer.module.theta)  # there is something left to do
    resumed.run()
    assert resumed.events == [event for event in whole.events if event[1] > 9]
    for after, expected in zip(resumed.outer.module.parameters(), whole.outer.module.parameters(), strict=True):
        assert torch.equal(after, expected)
    for part in ("global_step", "early_stopping", "counts"):
        assert resumed.state_dict()[part] == whole.state_dict()[part]
    assert whole.state_dict()["counts"] == {"inner": 15, "outer": 5}
    assert resumed.outer.scheduler.last_epoch == 5


def test_saving_inside_an_inner_loop_is_refused():
    engine = two_level_engine(15)
    engine.save_at = 8  # two of three inner steps are done, and their graph cannot be saved
    with pytest.raises(RuntimeError, match="inner loop of inner is not over"):
        engine.run()


def test_a_finished_run_does_not_start_again():
    engine = two_level_engine(6)
    engine.run()
    before = engine.outer.module.theta.clone()
    engine.events.clear()
    engine.run()
    assert engine.events == []
    assert torch.equal(engine.outer.module.theta, before)


def test_betty_starts_again_from_the_first_iteration():
    engine = StockRecorder([line_problem(StockLine)], EngineConfig(train_iters=6, strategy="cpu"), ALONE)
    engine.global_step = 4
    engine.run()
    assert engine.global_step == 10


def test_betty_saves_nothing():
    assert not hasattr(Engine, "state_dict")
    assert not hasattr(Engine, "load_state_dict")
    assert not hasattr(Engine, "iteration_end")


def test_the_last_step_is_validated():
    config = EngineConfig(train_iters=5, valid_step=2, strategy="cpu")
    mended = MendedRecorder([line_problem(MendedLine)], config, ALONE)
    mended.run()
    assert mended.steps("validation") == [2, 4, 5]
    stock = StockRecorder([line_problem(StockLine)], config, ALONE)
    stock.run()
    assert stock.steps("validation") == [2, 4]


def test_the_last_step_is_validated_once():
    engine = MendedRecorder(
        [line_problem(MendedLine)], EngineConfig(train_iters=4, valid_step=2, strategy="cpu"), ALONE
    )
    engine.run()
    assert engine.steps("validation") == [2, 4]


def test_an_iteration_ends_after_its_validation():
    engine = MendedRecorder(
        [line_problem(MendedLine)], EngineConfig(train_iters=2, valid_step=2, strategy="cpu"), ALONE
    )
    engine.run()
    assert engine.events == [("train", 1), ("end", 1), ("train", 2), ("validation", 2), ("end", 2)]


def test_validation_is_in_evaluation_mode():
    class Modes(MendedEngine):
        def validation(self) -> None:
            self.during = (self.line._training, self.line.module.training)

    engine = Modes([line_problem(MendedLine)], EngineConfig(train_iters=1, valid_step=1, strategy="cpu"), ALONE)
    engine.run()
    assert engine.during == (False, False)
    assert (engine.line._training, engine.line.module.training) == (True, True)
