"""launch/gpu_report.py at a tiny size, and what only a GPU can tell."""

import json

import pytest
import torch
from launching import call

from reckoning_betty.benchmark.rounded import FULL, TINY, matmul_rate, measure, table
from reckoning_betty.benchmark.workload import make_workload, task_losses
from reckoning_betty.inner.fast_weights import FastWeightsPlan
from reckoning_betty.inner.precision import set_precision


def test_quick(tmp_path):
    file = tmp_path / "report.json"
    ended = call("gpu_report", "--output", file, "--quick", "--steps", "2")
    assert ended.code == 0, ended.err
    rows = json.loads(file.read_text())["rows"]
    forms = {row["form"] for row in rows}
    assert len(rows) == 4
    assert len(forms) == 2
    for form in forms:
        wide, rounded = (row for row in rows if row["form"] == form)
        assert (wide["precision"], rounded["precision"]) == ("float32", "bfloat16")
        assert wide["flops"] == rounded["flops"] > 0
        assert rounded["losses"] == pytest.approx(wide["losses"], rel=1e-2)
        assert rounded["losses"] != wide["losses"]
        for row in (wide, rounded):
            assert len(row["losses"]) == 3
            assert row["flop_share"] == pytest.approx(row["flops"] / row["seconds"] / 1e9 / row["matmul_rate"])
            assert row["tasks_per_second"] == pytest.approx(row["tasks"] / row["seconds"])
    text = (tmp_path / "report.md").read_text()
    assert table(rows) in text
    assert table(rows).count("bfloat16") == 2


def test_the_full_size_reads_1024_tokens():
    assert (FULL.width, FULL.layers, FULL.vocabulary) == (768, 12, 50257)
    assert FULL.facts * (FULL.tokens - 1) == 1024


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--output", "report.txt"), "must end in .json"),
        (("--output", "report.json", "--steps", "0"), "--steps 0 must be 1 or more"),
        (("--output", "report.json", "--tasks", "0", "--quick"), "--tasks 0 must be 1 or more"),
        (("--output", "report.json"), "There is no GPU here: add --quick"),
    ],
)
def test_bad_options_end_with_a_sentence(options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended = call("gpu_report", *options)
    assert ended.code == 2
    assert sentence in ended.err


def hypergradient(shape, form, device, precision="float32", double=False):
    workload = make_workload(shape)
    model = workload.model.to(device)
    model = model.double() if double else model
    set_precision(model, precision)
    plan = FastWeightsPlan(names=workload.names, form=form, checkpoint=True)
    facts, questions = workload.facts.to(device), workload.questions.to(device)
    fast = plan.start(model, shape.tasks)
    dtype = next(model.parameters()).dtype
    alpha = {name: torch.tensor(0.03, device=device, dtype=dtype) for name in workload.names}
    for _ in range(shape.inner_steps):
        fast, _ = fast.step(lambda now: task_losses(now.logits(facts[..., :-1]), facts), alpha, create_graph=True)
    task_losses(fast.logits(questions[..., :-1]), questions).mean().backward()
    return torch.cat([parameter.grad.double().cpu().flatten() for parameter in model.parameters()])


@pytest.mark.gpu
@pytest.mark.parametrize("form", ["dual", "batched"])
def test_hypergradient_on_a_gpu(form):
    exact = hypergradient(TINY, form, "cpu", double=True)
    found = hypergradient(TINY, form, "cuda")
    assert (found - exact).norm() < 1e-4 * exact.norm()
    rounded = hypergradient(TINY, form, "cuda", "bfloat16")
    assert 1e-4 * exact.norm() < (rounded - exact).norm() < 0.05 * exact.norm()


@pytest.mark.gpu
def test_gpt2_small_with_1024_tokens_fits_and_agrees():
    device = torch.device("cuda")
    rate = matmul_rate("bfloat16", device, 4096)
    assert rate > matmul_rate("float32", device, 4096)
    found = [measure(FULL, precision, True, device, 1, rate) for precision in ("float32", "bfloat16")]
    assert found[1]["losses"] == pytest.approx(found[0]["losses"], rel=1e-2)
    assert all(0 < row["flop_share"] < 1 for row in found)
