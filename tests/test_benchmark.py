"""The benchmark: all engines give one hypergradient, a wrong one is refused, and what was measured is what is reported.

Nothing here depends on how long anything takes.
"""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reckoning_betty.benchmark import worker
from reckoning_betty.benchmark.engines import CHECKPOINT, OURS, REFERENCE, SHARED_RATE, Prepared
from reckoning_betty.benchmark.measure import Options, key_of, measure_shape, refuse_wrong
from reckoning_betty.benchmark.operations import OperationCount
from reckoning_betty.benchmark.peers import PEERS, MissingPeerError
from reckoning_betty.benchmark.report import table, write_report
from reckoning_betty.benchmark.results import Results
from reckoning_betty.benchmark.sketch import relative_error, sketch
from reckoning_betty.benchmark.sweeps import Sweep, choose_sweeps
from reckoning_betty.benchmark.worker import Job, prepare
from reckoning_betty.benchmark.workload import Shape, make_workload
from reckoning_betty.errors import NotMeasured, UserError

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = Shape(
    width=8,
    layers=2,
    heads=2,
    vocabulary=20,
    tasks=3,
    facts=2,
    tokens=5,
    question_tokens=4,
    inner_steps=2,
    rate=0.3,
    dtype="float64",
)
FORMS = [form + suffix for form in OURS for suffix in ("", CHECKPOINT)]


def hypergradient(engine: str):
    workload = make_workload(TINY)
    prepared = prepare(engine, workload)
    prepared.step()
    weights = {name: parameter.grad for name, parameter in workload.model.named_parameters()}
    return weights, {name: rate.grad for name, rate in prepared.rates.items()}


@pytest.fixture(scope="module")
def expected():
    return hypergradient(REFERENCE)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


# hypergradients


@pytest.mark.parametrize("engine", FORMS)
def test_each_form_gives_the_reference_hypergradient(engine, expected):
    for found, reference in zip(hypergradient(engine), expected, strict=True):
        assert_equal(found, reference)


def test_the_reference_is_the_gradient_of_an_unrolled_loop_written_down_plainly(expected):
    workload = make_workload(TINY)
    total = 0.0
    for facts, questions in zip(workload.facts, workload.questions, strict=True):
        values = dict(workload.model.named_parameters())
        for k in range(TINY.inner_steps):
            gradients = torch.autograd.grad(
                plain_loss(workload.model, values, facts), values.values(), create_graph=True
            )
            moved = zip(values.items(), gradients, strict=True)
            values = {name: value - workload.rates[name][k] * gradient for (name, value), gradient in moved}
        total = total + plain_loss(workload.model, values, questions) / TINY.tasks
    total.backward()
    assert_equal({name: parameter.grad for name, parameter in workload.model.named_parameters()}, expected[0])
    assert_equal({name: rate.grad for name, rate in workload.rates.items()}, expected[1])


def plain_loss(model, values, tokens):
    logits = torch.func.functional_call(model, values, (), {"input_ids": tokens[:, :-1]}).logits
    return -logits.log_softmax(-1).gather(-1, tokens[:, 1:, None]).mean()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", PEERS)
def test_each_peer_gives_the_reference_hypergradient(engine, expected):
    try:
        weights, rates = hypergradient(engine)
    except MissingPeerError as error:
        pytest.skip(str(error))
    assert_equal(weights, expected[0])
    if SHARED_RATE in rates:
        torch.testing.assert_close(rates[SHARED_RATE], sum(expected[1].values()))
    elif rates:
        assert_equal(rates, expected[1])


def test_a_missing_peer_is_answered_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "higher", None)
    with pytest.raises(UserError, match=r"pip install 'reckoning_betty\[peers\]'"):
        prepare("higher", make_workload(TINY))


# sketches


def sketch_of(engine: str, change=lambda workload: None):
    workload = make_workload(TINY)
    prepared = prepare(engine, workload)
    prepared.step()
    change(workload)
    return sketch(workload.model.named_parameters(), prepared.rates)


def test_a_sketch_of_the_same_is_the_same():
    assert relative_error(sketch_of("dual"), sketch_of(REFERENCE)) < 1e-9


def test_a_sketch_measures_a_difference():
    def disturb(workload):
        gradient = workload.model.transformer.wte.weight.grad
        noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0), dtype=gradient.dtype)
        gradient += 0.1 * gradient.norm() * noise / noise.norm()

    assert relative_error(sketch_of(REFERENCE, disturb), sketch_of(REFERENCE)) == pytest.approx(0.1, rel=0.5)


def test_a_sketch_sees_one_wrong_rate():
    def disturb(workload):
        workload.rates["transformer.h.0.ln_1.weight"].grad[1] += 0.5

    found = sketch_of(REFERENCE, disturb)
    assert relative_error(found, sketch_of(REFERENCE)) > 1e-2
    with pytest.raises(UserError, match="differs from that of the looped form"):
        refuse_wrong("dual", TINY, found, sketch_of(REFERENCE))


def test_not_a_number_is_refused():
    def spoil(workload):
        workload.model.transformer.wte.weight.grad[0, 0] = torch.nan

    with pytest.raises(UserError, match="by nan"):
        refuse_wrong("dual", TINY, sketch_of(REFERENCE, spoil), sketch_of(REFERENCE))


# measuring


class InThisProcess:
    """A worker without a process."""

    def __init__(self, job: Job):
        self.job = job

    def ask(self, command, **options):
        return {"check": worker.check, "run": worker.run}[command](self.job, **options)

    def stop(self):
        pass


def measured(sweep, engines, earlier=(), limit=1e6, start=InThisProcess, shape=TINY):
    done = []
    options = Options(
        runs=2, threads=1, memory_limit_mib=limit, seconds_per_run=0, start=start, on_progress=done.append
    )
    rows = list(measure_shape(sweep, shape, engines, earlier, 10.0, options))
    assert sum(done) == 1 + len(engines) * 3
    return rows


SWEEP = Sweep("tasks", (TINY,), ("dual", "looped"), "tasks")


def test_rows_say_what_was_measured():
    rows = measured(SWEEP, ["dual", "dual+checkpoint", "looped"])
    assert [(row["engine"], row["checkpoint"]) for row in rows] == [("dual", False), ("dual", True), ("looped", False)]
    for row in rows:
        assert row["status"] == "measured"
        assert row["checked"] == "weights and rates"
        assert row["relative_error"] < 1e-9
        assert row["tasks_per_second"] == pytest.approx(TINY.tasks / row["seconds"])
        assert row["flop_rate"] == pytest.approx(row["flops"] / row["seconds"] / 1e9)
        assert row["seconds_min"] <= row["seconds"] <= row["seconds_max"]


def test_a_wrong_hypergradient_is_refused(monkeypatch):
    def first_order_only(workload, form, checkpoint):
        def step():
            workload.model(input_ids=workload.questions[:, 0]).logits.mean().backward()

        return Prepared(step, form, {})

    monkeypatch.setattr(worker, "prepare_ours", first_order_only)
    with pytest.raises(UserError, match=r"The hypergradient of dual at width 8.*leave it out with --engines"):
        measured(SWEEP, ["dual"])


def test_an_engine_that_fails_becomes_a_row_with_the_reason():
    class Failing(InThisProcess):
        def ask(self, command, **options):
            if self.job.engine == "looped":
                raise NotMeasured("failed", "no luck")
            return super().ask(command, **options)

    rows = {row["engine"]: row for row in measured(SWEEP, ["looped", "dual"], start=Failing)}
    assert (rows["looped"]["status"], rows["looped"]["reason"]) == ("failed", "no luck")
    assert rows["looped"]["peak_memory_mib"] is None
    assert rows["dual"]["status"] == "measured"


def test_what_would_not_fit_is_extended_from_the_line_and_said_to_be():
    # handmade: 1 GiB for 1 task, 3 GiB for 2, so 31 GiB for 16
    one, two = ({**row, "tasks": n} for row, n in zip(measured(SWEEP, ["dual"]) * 2, (1, 2), strict=True))
    one["peak_memory_mib"], two["peak_memory_mib"] = 1024.0, 3072.0
    [row] = measured(SWEEP, ["dual"], earlier=[one, two], limit=20 * 1024, shape=replace(TINY, tasks=16))
    assert row["status"] == "does not fit"
    assert row["reason"] == "would take 31.0 GiB, extended from the line through 1 and 2 tasks"
    assert row["extrapolated"]
    assert row["extrapolated_peak_memory_mib"] == 31 * 1024
    assert row["peak_memory_mib"] is None


def test_what_did_not_fit_is_not_tried_again_with_more():
    [small] = measured(SWEEP, ["dual"])
    small |= {"status": "does not fit"}
    [row] = measured(SWEEP, ["dual"], earlier=[small], shape=replace(TINY, tasks=16))
    assert (row["status"], row["reason"]) == ("does not fit", "did not fit with 3 tasks already")
    assert not row["extrapolated"]


@pytest.mark.parametrize("engine", ["looped", "higher"])
def test_operations_are_those_that_torch_counts(engine):
    if engine == "higher":
        pytest.importorskip("higher")
    workload = make_workload(TINY)
    prepared = prepare(engine, workload)
    with FlopCounterMode(display=False) as torchs:
        prepared.step()
    with OperationCount() as ours:
        prepared.step()
    assert ours.total == torchs.get_total_flops() > 0


def test_operations_inside_of_autograd_functions_are_counted():
    totals = {}
    for engine in ("batched", "looped"):
        prepared = prepare(engine, make_workload(TINY))
        with OperationCount() as counter:
            prepared.step()
        totals[engine] = counter.total
    # the same products, which batched makes in functions of its own
    assert totals["batched"] == pytest.approx(totals["looped"], rel=0.02)


# files


def test_the_report_holds_the_numbers(tmp_path):
    rows = measured(SWEEP, ["dual"])
    rows[0] |= {"tasks_per_second": 12.345, "peak_memory_mib": 678.9, "memory_above_model_mib": 54.3}
    rows[0] |= {"flop_rate": 3.21, "flop_share": 0.456, "reason": "asked for"}
    rows.append(rows[0] | {"engine": "boat", "form": None, "status": "not installed", "reason": "pip install it"})
    text = table(rows, {"cpu": "A CPU", "cpus": 2, "threads": 2, "matmul_gflops": 7.04, "commit": "abc"})
    for expected in ("12.3", "679", "54", "3.21", "45.6%", "- dual: asked for", "- boat: pip install it", "7.04"):
        assert expected in text
    write_report([row | {"sweep": "width"} for row in rows], {}, tmp_path / "b.json")
    assert (tmp_path / "b.md").is_file()
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "b_growth.png").exists()
    write_report([row | {"sweep": "growth"} for row in rows[:1]], {}, tmp_path / "b.json")
    assert (tmp_path / "b_growth.png").read_bytes().startswith(b"\x89PNG")


def test_rows_are_found_again_with_the_same_settings_only(tmp_path):
    file = tmp_path / "b.json"
    [row] = measured(SWEEP, ["dual"])
    results = Results(file, {"threads": 1})
    results.add(row)
    results.add(row | {"seconds": 5.0})
    key = key_of(SWEEP, TINY, "dual")
    again = Results(file, {"threads": 1})
    assert [found["seconds"] for found in again.rows] == [5.0]
    assert again.has(key)
    assert not again.has(key_of(SWEEP, TINY, "looped"))
    assert not again.has(key_of(SWEEP, replace(TINY, tasks=2), "dual"))
    assert not Results(file, {"threads": 2}).has(key)
    again.add(row | {"status": "failed"})
    assert not again.has(key)


def test_another_file_is_not_taken_for_a_benchmark(tmp_path):
    (tmp_path / "b.json").write_text('{"something": "else"}', encoding="utf-8")
    with pytest.raises(UserError, match="is no file of a benchmark"):
        Results(tmp_path / "b.json", {})


@pytest.mark.parametrize(
    ("sweeps", "engines", "sentence"),
    [
        (["depth"], None, "--sweeps depth is not known; choose from default, gpt2, width, steps, tasks, growth."),
        (["tasks"], ["betty"], "--engines betty is not known; choose from auto, dual"),
        (["tasks"], ["higher"], "add 'default'"),
    ],
)
def test_bad_choices_are_answered_in_a_sentence(sweeps, engines, sentence):
    with pytest.raises(UserError, match=sentence):
        choose_sweeps(sweeps, engines, quick=False)


# the command

SCRIPT = REPOSITORY / "launch" / "benchmark.py"
QUICK = ("--quick", "--sweeps", "default", "--engines", "auto,looped", "--runs", "1", "--threads", "1")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """What the command wrote, run as users run it."""
    file = tmp_path_factory.mktemp("benchmark") / "b.json"
    command = [sys.executable, str(SCRIPT), "--output", str(file), *QUICK]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert "auto" in done.stdout
    return file


def test_the_command_writes_rows(file):
    content = json.loads(file.read_text(encoding="utf-8"))
    assert [row["engine"] for row in content["rows"]] == ["auto", "looped"]
    for row in content["rows"]:
        assert row["status"] == "measured"
        assert row["form"] in ("mixed", "looped")
        assert (row["width"], row["layers"], row["tasks"], row["inner_steps"], row["tokens"]) == (8, 1, 2, 2, 5)
        assert row["tasks_per_second"] > 0
        assert row["peak_memory_mib"] > row["memory_above_model_mib"] >= 0
        assert row["relative_error"] < 1e-3
    assert content["machine"]["matmul_gflops"] > 0
    assert file.with_suffix(".md").is_file()
    assert file.with_suffix(".png").is_file()


@pytest.fixture
def command(monkeypatch):
    """The command in this process, from the second time on."""
    main = runpy.run_path(str(SCRIPT))["main"]

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
        main()

    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    return run


def test_rows_that_are_there_are_not_measured_again(file, command, monkeypatch, capsys):
    monkeypatch.setattr(worker.Worker, "__init__", lambda self, job: pytest.fail(f"measured {job.engine}"))
    before = json.loads(file.read_text(encoding="utf-8"))["rows"]
    command("--output", file, *QUICK)
    assert json.loads(file.read_text(encoding="utf-8"))["rows"] == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--engines", "betty"), "--engines betty is not known; choose from auto, "),
        (("--runs", "0"), "--runs 0 must be 1 or more"),
        (("--threads", "-1"), "--threads -1 must be 0, for every core, or more"),
        (("--memory-limit", "0"), "--memory-limit 0.0 must be above 0"),
    ],
)
def test_a_wrong_option_is_answered_in_a_sentence(arguments, sentence, command, tmp_path):
    with pytest.raises(UserError, match=sentence):
        command("--output", tmp_path / "b.json", *arguments)


def test_the_file_has_to_be_json(command, tmp_path):
    with pytest.raises(UserError, match=r"must end in \.json"):
        command("--output", tmp_path / "b.csv")
