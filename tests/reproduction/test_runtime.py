"""Run times: the arms answer alike, and lines cross where they do."""

import pytest
import torch

from problems import find_problem
from reckoning_betty.config import ModelConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.models.causal_lm import load_model
from reckoning_betty.reproduction import runtime
from reckoning_betty.reproduction.experiment import Experiment
from reckoning_betty.reproduction.runtime import ARMS, Asked, Line, RuntimeSize, faster_from, measure
from reckoning_betty.reproduction.runtime_report import draw_runtime, runtime_markdown
from reckoning_betty.training.run_directory import read_json, write_json

SHAPE = {"layers": 1, "width": 16, "heads": 2, "context": 64}


def splits():
    problem = find_problem("clutrr")
    return problem.load_splits(problem.data_config(test_hops=(3,), test_stories=2, questions_per_task=3), None, 0)


def asked(inner_steps=1):
    made = splits()
    model, tokenizer = load_model(ModelConfig(**SHAPE), made.vocabulary, 0)
    return Asked(model, TaskEncoder(tokenizer, Prompts()), made.test[0], inner_steps)


def test_the_cache_changes_no_answer_and_every_question_is_timed():
    one = asked()
    seconds = {arm: ask() for arm, ask in one.ways().items()}
    assert one.answers["in-context"] == one.answers["in-context, cached"]
    for times in seconds.values():
        assert len(times) == 1 + len(one.task.questions) == 4
        assert times == sorted(times)
    assert seconds["in-context"][0] == 0


def test_a_line_goes_through_medians():
    line = Line.of([[1.0, 2.0, 3.0], [2.0, 5.0, 8.0], [9.0, 11.0, 13.0]])
    assert (line.start, line.each) == (2.0, 2.0)
    assert line.at(3) == 8.0


@pytest.mark.parametrize(
    ("line", "other", "first"),
    [
        (Line(1.0, 1.0), Line(0.0, 2.0), 2),  # equal at 1
        (Line(5.0, 1.0), Line(0.0, 2.0), 6),
        (Line(5.0, 1.0), Line(0.0, 1.0), None),
        (Line(0.0, 1.0), Line(5.0, 1.0), 1),
        (Line(5.5, 1.0), Line(0.0, 3.0), 3),
    ],
)
def test_where_lines_cross(line, other, first):
    assert faster_from(line, other) == first
    if first is not None:
        assert line.at(first) < other.at(first)
        assert first == 1 or line.at(first - 1) >= other.at(first - 1)


def test_measured_rows_make_a_table_and_a_picture(tmp_path):
    size = RuntimeSize(problem="clutrr", data={}, models={"tiny": SHAPE}, inner_steps=[1, 2], repeats=1)
    content = measure(size, splits(), Prompts(), torch.device("cpu"), tmp_path / "kept.json")
    assert [(row["arm"], row["inner_steps"]) for row in content["rows"]] == [(a, n) for n in (1, 2) for a in ARMS]
    experiment = Experiment(name="runtime", title="Run time", source="S.", figure="runtime", sizes={"small": size})
    text = runtime_markdown(experiment, content)
    assert text.count("| tiny | 1 |") == text.count("| tiny | 2 |") == 3
    draw_runtime(content, tmp_path / "runtime.png")
    assert (tmp_path / "runtime.png").read_bytes().startswith(b"\x89PNG")


def test_timings_go_on_where_they_were_stopped(tmp_path, monkeypatch):
    size = RuntimeSize(problem="clutrr", data={}, models={"tiny": SHAPE, "other": SHAPE}, inner_steps=[1, 2], repeats=1)
    kept, made = tmp_path / "runs" / "kept.json", splits()
    encoded, encode = [], runtime.encode

    def stopped(*given):
        encoded.append(given[-1])
        if encoded == [1, 1, 2, 2, 1]:  # each N once to warm up and once timed
            raise KeyboardInterrupt
        return encode(*given)

    monkeypatch.setattr(runtime, "encode", stopped)
    with pytest.raises(KeyboardInterrupt):
        measure(size, made, Prompts(), torch.device("cpu"), kept)
    first = read_json(kept)["rows"]
    assert [(row["model"], row["inner_steps"]) for row in first] == [("tiny", n) for n in (1, 2) for _ in ARMS]
    content = measure(size, made, Prompts(), torch.device("cpu"), kept)
    assert content["rows"][:6] == first
    assert len(content["rows"]) == 12
    assert encoded[5:] == [1, 1, 2, 2]


@pytest.mark.parametrize("key", ["config", "commit", "machine", "versions"])
def test_timings_of_another_measurement_are_not_taken(tmp_path, key):
    size = RuntimeSize(problem="clutrr", data={}, models={"tiny": SHAPE}, inner_steps=[1], repeats=1)
    kept, made, cpu = tmp_path / "kept.json", splits(), torch.device("cpu")
    content = measure(size, made, Prompts(), cpu, kept)
    write_json(kept, content | {key: "other", "rows": [row | {"tokens": -1} for row in content["rows"]]})
    assert all(row["tokens"] > 0 for row in measure(size, made, Prompts(), cpu, kept)["rows"])
