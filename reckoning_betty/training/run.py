"""A whole run: every method trained, chosen on validation, reported on test; then the summary, table and plots."""

import logging
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, tracking
from accelerate.tracking import LoggerType
from tqdm import tqdm

from reckoning_betty import plots
from reckoning_betty.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from reckoning_betty.config import RunConfig, has_inner_level
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.task import Splits, Task
from reckoning_betty.distributed.processes import Processes
from reckoning_betty.distributed.sharding import shard_matrices, whole_state
from reckoning_betty.distributed.strategies import launched_strategy
from reckoning_betty.distributed.zero import leave_models_whole
from reckoning_betty.errors import UserError
from reckoning_betty.evaluation import Answerer, Answers
from reckoning_betty.inner.losses import UNIT
from reckoning_betty.models.causal_lm import load_model, max_tokens, reads_packed_rows
from reckoning_betty.report import accuracy_lines
from reckoning_betty.training.answers import tables_of, write_answers
from reckoning_betty.training.engine import Job, TrainingEngine
from reckoning_betty.training.metrics import MetricLog, read_metrics
from reckoning_betty.training.run_directory import (
    RunDirectory,
    commit,
    peak_memory_mib,
    read_json,
    versions,
    write_json,
)

logger = logging.getLogger(__name__)

SAME_CTRL_C = 2.0
"""Seconds within which two signals are one Ctrl-C: Slurm and a launcher that passes it on both send it."""


@dataclass(slots=True)
class StopOnCtrlC:
    """Notes the first Ctrl-C, for the next moment at which the state is whole; the second stops at once.

    Args:
        is_main: whether this process answers it.
    """

    is_main: bool
    asked_at: float | None = None
    _before: Any = field(default=None, repr=False)

    def __enter__(self) -> "StopOnCtrlC":
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self.asked_at is None:
            self.asked_at = now
            if self.is_main:
                tqdm.write(
                    "Stopping after this step (Ctrl-C again stops at once, and the steps since the last save are lost)."
                )
        elif now - self.asked_at > SAME_CTRL_C:
            raise KeyboardInterrupt


@dataclass(slots=True, kw_only=True)
class Run:
    """Trains and reports ``config.methods`` on ``splits``.

    Args:
        config: resolved.
        splits: the tasks.
        prompts: the problem's.
        build_levels: ``problems.methods.build_levels``.
        directory: where everything is written.
        accelerator: device, processes and trackers. The main process writes; what it finds on disk, all go by.
    """

    config: RunConfig
    splits: Splits
    prompts: Prompts
    build_levels: Callable[..., Any]
    directory: RunDirectory
    accelerator: Accelerator
    processes: Processes = field(default_factory=Processes)

    def execute(self) -> dict[str, Any]:
        """Run what is not done yet; returns the summary, which is written last.

        Raises:
            Interrupted: Ctrl-C; the state is saved.
            UserError: a file that was left to go on from is damaged.
            NonFiniteError: training diverged; the best checkpoint and the last state stay.
        """
        summary = self._found(self.directory.summary)
        if summary is not None:
            return summary
        results = {}
        with StopOnCtrlC(self.processes.is_main) as stop:
            for method in self.config.methods:
                result_file = self.directory.result(method)
                result = self._found(result_file)
                if result is None:
                    result = self._train_and_report(method, stop)
                    self.processes.on_main(partial(write_json, result_file, result))
                results[method] = result
        return self.processes.from_main(lambda: self._report(results))

    def _found(self, file: Path) -> dict[str, Any] | None:
        return self.processes.from_main(lambda: read_json(file) if file.exists() else None)

    def _report(self, results: dict[str, dict]) -> dict[str, Any]:
        summary = self._summary(results)
        self._draw(results)
        write_json(self.directory.summary, summary)
        return summary

    def _train_and_report(self, method: str, stop: StopOnCtrlC) -> dict[str, Any]:
        config, start = self.config, time.perf_counter()
        model, tokenizer = load_model(config.model, self.splits.vocabulary, config.seed)
        mapped = has_inner_level(method) and config.hypergradient_method.sweeps_forward
        packs = config.model.pack_rows and not mapped and reads_packed_rows(model)
        encoder = TaskEncoder(tokenizer, self.prompts, self.accelerator.device, max_tokens(model), packs)
        levels = self.build_levels(method, config, model, self.splits.train, encoder, self.accelerator.device)
        folder = self.directory.checkpoint(method, config.method)
        if levels.note and self.processes.is_main:
            tqdm.write(f"{method}: {levels.note}", file=sys.stderr)

        def save_best(note: dict[str, Any]) -> None:
            checkpoint = Checkpoint(
                model=model,
                tokenizer=tokenizer,
                method=method,
                problem=config.problem,
                prompts=self.prompts,
                rates=levels.rates,
                optimizer=config.inner.make_optimizer(),
                facts_per_pass=config.inner.facts_per_pass,
                reduction=config.inner.reduction,
                note=note
                | {"seed": config.seed, "objective": config.objective, "data": asdict(config.data)}
                | {"max_answer_tokens": config.evaluation.max_answer_tokens},
            )
            weights = whole_state(model.state_dict(keep_vars=True))
            self.processes.on_main(lambda: save_checkpoint(folder, checkpoint, weights))

        answerer = self._answerer(method, model, levels.rates, encoder)
        if config.evaluation.choose_by_recall:
            answerer.max_recall_tokens = config.evaluation.max_recall_tokens
        job = Job(
            method=method,
            training=config.training(method),
            answerer=answerer,
            validation=self.splits.validation,
            iterations_per_step=levels.iterations_per_step,
            state_file=self.directory.state(method),
            save_every=config.save_every,
            save_best=save_best,
            log=MetricLog(self.directory.metrics, self.accelerator),
            stop_asked=lambda: stop.asked_at is not None,
        )
        engine = TrainingEngine(levels.problems, levels.dependencies, levels.outer, job, self.accelerator)
        engine.train_to_end()
        steps = levels.outer.count
        best = load_checkpoint(folder)  # complete: all wait for the main process to write it
        best.model.to(self.accelerator.device)
        if self._shards_weights:
            shard_matrices(best.model, self.processes)
        answerer = self._answerer(method, best.model, best.rates, encoder)
        answerer.max_recall_tokens = config.evaluation.max_recall_tokens
        validation = self._evaluate(answerer, self.splits.validation, f"{method} validation")
        test = self._evaluate(answerer, self.splits.test, f"{method} test")
        if test:
            write = partial(write_answers, self.directory.answers(method), self.splits.test, test)
            self.processes.on_main(write)
        return tables_of(self.splits, validation, test, answerer.max_recall_tokens > 0) | {
            "steps": steps,
            "best_step": best.note["outer_step"],
            "training_seconds": job.seconds,
            "seconds": time.perf_counter() - start,
            "tasks_per_second": steps * job.training.tasks_per_step / job.seconds,
            "peak_memory_mib": self.processes.gathered([peak_memory_mib()]),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "inner_losses": (test or validation).inner_losses.mean(dim=1).tolist(),
        }

    def _answerer(self, method: str, model: torch.nn.Module, rates: Any, encoder: TaskEncoder) -> Answerer:
        evaluation = self.config.evaluation
        return Answerer(
            method=method,
            model=model,
            rates=rates,
            encoder=encoder,
            inner_steps=evaluation.inner_steps or self.config.inner.steps,
            optimizer=self.config.inner.make_optimizer(),
            form=self.config.inner.fast_weights,
            facts_per_pass=self.config.inner.facts_per_pass,
            reduction=self.config.inner.reduction,
            max_answer_tokens=evaluation.max_answer_tokens,
            tasks_per_batch=evaluation.tasks_per_batch,
            processes=None if self._shards_weights else self.processes,
        )

    @property
    def _shards_weights(self) -> bool:
        return launched_strategy(self.config.shard_weights, self.processes).shards_weights

    def _evaluate(self, answerer: Answerer, tasks: list[Task], what: str) -> Answers | None:
        if not tasks:
            return None
        with tqdm(total=len(tasks), desc=what, unit="task", mininterval=1, disable=not self.processes.is_main) as bar:
            return answerer.answer(tasks, on_batch=bar.update)

    def _summary(self, results: dict[str, dict]) -> dict[str, Any]:
        main = results[self.config.method]
        accuracy = {
            method: {
                split: {hops: row["label_accuracy"] for hops, row in table.items()}
                for split, table in result["label_accuracy"].items()
            }
            for method, result in results.items()
        }
        return {
            "problem": self.config.problem,
            "method": self.config.method,
            "objective": self.config.objective,
            "seed": self.config.seed,
            "label_accuracy": accuracy,
            "tasks_per_second": main["tasks_per_second"],
            "processes": self.processes.number,
            "peak_memory_mib": max(max(result["peak_memory_mib"]) for result in results.values()),
            "seconds": sum(result["seconds"] for result in results.values()),
            "methods": {
                method: {key: value for key, value in result.items() if key != "label_accuracy"}
                for method, result in results.items()
            },
            "questions": {
                split: sum(r["n"] for r in table.values()) for split, table in main["label_accuracy"].items()
            },
            "versions": versions(),
            "commit": commit(),
        }

    def _draw(self, results: dict[str, dict]) -> None:
        self.directory.plots.mkdir(exist_ok=True)
        folder, metrics = self.directory.plots, read_metrics(self.directory.metrics)
        plots.learning_curve(metrics, folder / "learning_curve.png")
        tables = {method: result["label_accuracy"]["test"] for method, result in results.items()}
        if any(tables.values()):
            plots.accuracy_by_hops(tables, folder / "label_accuracy.png")
        encoding = next(filter(has_inner_level, results), None)
        if encoding:
            unit = UNIT[self.config.inner.reduction]
            plots.inner_losses(results[encoding]["inner_losses"], unit, folder / "inner_losses.png")
            rates = load_checkpoint(self.directory.checkpoint(encoding, self.config.method)).rates
            plots.inner_rates(rates, folder / "inner_rates.png")


def start_trackers(config: RunConfig, directory: RunDirectory) -> Accelerator:
    """The accelerator, with the tracker that the config asks for.

    Raises:
        UserError: the tracker's package is not installed, or it cannot start.
    """
    tracker = config.tracking.tracker
    if tracker != "none" and tracker not in map(str, tracking.get_available_trackers()):
        raise UserError(f"tracking.tracker={tracker}: its package is missing; type: pip install {tracker}")
    accelerator = Accelerator(log_with=None if tracker == "none" else tracker, project_dir=directory.root)
    leave_models_whole()
    options = {"wandb": {"mode": config.tracking.wandb_mode, "dir": str(directory.root)}}
    if tracker != "none":
        try:
            accelerator.init_trackers(
                config.tracking.project, init_kwargs=options if tracker == LoggerType.WANDB.value else {}
            )
        except Exception as error:  # each tracker raises its own: no account, no network, a folder not to be written
            reason = " ".join(str(error).split())[:200].rstrip(".")
            advice = "type: wandb login, or take tracking.wandb_mode=offline" if tracker == "wandb" else "leave it out"
            raise UserError(f"tracking.tracker={tracker} could not be started ({reason}); {advice}.") from None
    return accelerator


def print_table(summary: dict[str, Any]) -> None:
    """The label accuracy of every method by hops, on test or, without test tasks, on validation."""
    split = "test" if any(tables["test"] for tables in summary["label_accuracy"].values()) else "validation"
    tables = {method: tables[split] for method, tables in summary["label_accuracy"].items()}
    print("\n".join(accuracy_lines(tables, f"Label accuracy by hops ({split}, %)")))
