"""Run time (paper, section 4.4): several questions about one knowledge set, encoded once or read again each time.

Letters: n tokens of facts, m of a question, N inner steps, q questions.
"""

import copy
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from reckoning_betty.config import ModelConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.task import Splits, Task
from reckoning_betty.inner.encode import encode
from reckoning_betty.inner.fast_weights import plan_fast_weights
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.causal_lm import layer_names, load_model, max_tokens
from reckoning_betty.training.run_directory import commit, read_json, versions, write_json

ARMS = ("RECKONING", "in-context", "in-context, cached")
"""Facts into the weights; facts and question read together for each question; facts read once and their keys and
values kept, questions read after them."""

Ask = Callable[[], list[float]]
"""Answers every question; seconds from the start to when the facts are taken in, and to each answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSize:
    """What is timed.

    Args:
        problem: whose first test task is asked about, with all its questions.
        data: the problem's options.
        models: shapes by name; their weights are random, which time does not depend on.
        inner_steps: N, each timed.
        repeats: times that every arm is timed, in turn.
        threads: CPU threads.
    """

    problem: str
    data: dict[str, Any]
    models: dict[str, dict[str, Any]]
    inner_steps: list[int]
    repeats: int
    threads: int = 1


@dataclass(slots=True)
class Asked:
    """One task's questions about one model, by each arm. All give the first token of each answer.

    Args:
        model: random weights, attention that can be differentiated twice.
        encoder: of the task.
        task: with at least one question.
        inner_steps: N.

    Raises:
        UserError: the model cannot read the facts and a question together.
    """

    model: PreTrainedModel
    encoder: TaskEncoder
    task: Task
    inner_steps: int
    fused: PreTrainedModel = field(init=False)
    """The same weights with torch's fused attention, for the arms that need no derivative."""
    answers: dict[str, list[int]] = field(default_factory=dict)
    """The last answers of each arm, ids."""

    def __post_init__(self) -> None:
        self.encoder.check_length(1 + max(map(len, self._prompts(with_facts=True))))
        config = copy.deepcopy(self.model.config)
        self.fused = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        self.fused.load_state_dict(self.model.state_dict())
        self.fused.to(self.model.device)

    def ways(self) -> dict[str, Ask]:
        """The arms by name."""
        return dict(zip(ARMS, (self.reckoning, self.in_context, self.cached), strict=True))

    def reckoning(self) -> list[float]:
        model, prompts, start = self.model, self._prompts(with_facts=False), self._now()
        rates = InnerRates(layer_names(model), self.inner_steps, 1e-3).to(model.device)
        facts = self.encoder.knowledge([self.task]).facts
        plan = plan_fast_weights(
            model, rates.names, "batched", 1, facts.inputs[0].numel(), self.inner_steps
        )  # one task: a copy of the weights, with which a question costs what it costs the model
        fast, _ = encode(plan.start(model, 1), facts, rates, self.inner_steps)
        seconds, answers = [self._now() - start], []
        with torch.no_grad():
            for prompt in prompts:
                logits = fast.logits(self._row([prompt]))
                answers.append(logits[0, 0, -1].argmax().item())
                seconds.append(self._now() - start)
        self.answers[ARMS[0]] = answers
        return seconds

    @torch.no_grad()
    def in_context(self) -> list[float]:
        prompts, start, answers = self._prompts(with_facts=True), self._now(), []
        seconds = [0.0]
        for prompt in prompts:
            logits = self.fused(input_ids=self._row(prompt), use_cache=False, logits_to_keep=1).logits
            answers.append(logits[0, -1].argmax().item())
            seconds.append(self._now() - start)
        self.answers[ARMS[1]] = answers
        return seconds

    @torch.no_grad()
    def cached(self) -> list[float]:
        prompts, start, answers = self._prompts(with_facts=True), self._now(), []
        shared = min(_common(prompts), min(map(len, prompts)) - 1)
        cache = DynamicCache(config=self.fused.config)
        self.fused(input_ids=self._row(prompts[0][:shared]), past_key_values=cache, logits_to_keep=1)
        seconds = [self._now() - start]
        for prompt in prompts:
            rest = self._row(prompt[shared:])
            logits = self.fused(input_ids=rest, past_key_values=cache, logits_to_keep=1).logits
            answers.append(logits[0, -1].argmax().item())
            cache.crop(-rest.shape[1])
            seconds.append(self._now() - start)
        self.answers[ARMS[2]] = answers
        return seconds

    def _row(self, tokens: list) -> Tensor:
        return torch.tensor([tokens], device=self.model.device)

    def _now(self) -> float:
        """Seconds, when all that was asked for is computed."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _prompts(self, with_facts: bool) -> list[list[int]]:
        each = [Task(facts=self.task.facts, questions=(question,)) for question in self.task.questions]
        return self.encoder.question_prompts(each, with_facts)


def measure(size: RuntimeSize, splits: Splits, prompts: Prompts, device: torch.device, kept: Path) -> dict[str, Any]:
    """All rows: {model, inner_steps, arm, tokens, seconds: [repeats][1 + q]}, the arms timed in turn.

    Args:
        size: what is timed.
        splits: whose first test task is asked about.
        prompts: of the problem.
        device: of the models.
        kept: a file written after every model and N, from which the same measurement goes on: of the same size, by the
            same code, on the same machine.
    """
    content = {
        "config": json.loads(json.dumps(asdict(size))),  # as the file has it
        "versions": versions(),
        "commit": commit(),
        "machine": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
    }
    earlier = read_json(kept) if kept.is_file() else {}
    rows = earlier["rows"] if all(earlier.get(key) == value for key, value in content.items()) else []
    timed = {(row["model"], row["inner_steps"]) for row in rows}
    before = torch.get_num_threads()
    torch.set_num_threads(size.threads)
    each = (size.repeats + 1) * len(ARMS)
    total = len(size.models) * len(size.inner_steps) * each
    try:
        with tqdm(total=total, initial=len(timed) * each, desc="runtime", unit="timing") as bar:
            for name, steps in itertools.product(size.models, size.inner_steps):
                if (name, steps) not in timed:
                    model, tokenizer = load_model(ModelConfig(**size.models[name]), splits.vocabulary, seed=0)
                    encoder = TaskEncoder(tokenizer, prompts, device, max_tokens(model))
                    asked = Asked(model.to(device), encoder, splits.test[0], steps)
                    rows += [{"model": name, "inner_steps": steps} | row for row in _time(asked, size.repeats, bar)]
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    write_json(kept, content | {"rows": rows})
    finally:
        torch.set_num_threads(before)
    return content | {"rows": rows}


def _time(asked: Asked, repeats: int, bar: tqdm) -> list[dict[str, Any]]:
    """A row for each arm."""
    seconds: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    for repeat in range(repeats + 1):
        for arm, ask in asked.ways().items():
            found = ask()
            bar.update()
            if repeat:  # the first is the warm-up
                seconds[arm].append(found)
    tokens = len(asked._prompts(with_facts=True)[0]) + 1
    return [{"arm": arm, "tokens": tokens, "seconds": seconds[arm]} for arm in ARMS]


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds of q questions, ``start + q * each``, medians over repeats."""

    start: float
    each: float

    @classmethod
    def of(cls, seconds: Sequence[Sequence[float]]) -> "Line":
        """From the seconds of repeated runs, [repeats][1 + q]."""
        starts = [run[0] for run in seconds]
        each = [(run[-1] - run[0]) / (len(run) - 1) for run in seconds]
        return cls(statistics.median(starts), statistics.median(each))

    def at(self, questions: int) -> float:
        """Seconds."""
        return self.start + questions * self.each


def faster_from(line: Line, other: Line) -> int | None:
    """The smallest number of questions from which ``line`` is faster than ``other``; None if it never is."""
    if line.at(1) < other.at(1) and line.each <= other.each:
        return 1
    if line.each >= other.each:
        return None
    return int((line.start - other.start) / (other.each - line.each)) + 1


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with."""
    return next((place for place, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1), len(rows[0]))
