"""Label accuracy by hops: greedy answers from adapted weights, or from a prompt, against the gold answers.

Letters: B tasks, T tokens, V vocabulary.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from reckoning_betty.data.collate import TaskEncoder, TokenRows
from reckoning_betty.data.task import Task
from reckoning_betty.distributed.processes import Processes
from reckoning_betty.inner.encode import encode
from reckoning_betty.inner.fast_weights import FastWeightsPlan, Form, plan_fast_weights
from reckoning_betty.inner.losses import answer_nll
from reckoning_betty.inner.one_pass import logits_of
from reckoning_betty.inner.optimizers import GradientDescent, InnerOptimizer
from reckoning_betty.inner.rates import InnerRates

Table = dict[str, dict[str, float | int]]
"""{hops: {"n": questions, "label_accuracy": share in [0, 1]}}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a method says to each task's first question."""

    texts: list[str]
    nll: Tensor
    """-log p(y | x) of the gold answer, [tasks], nats."""
    inner_losses: Tensor
    """L_CLM of the facts before inner step 0, 1, ... and after the last, [N + 1, tasks]; empty without inner level."""


@dataclass(slots=True, kw_only=True)
class Answerer:
    """Answers questions with a trained method.

    Args:
        method: ``reckoning``, ``in_context`` or ``no_facts``.
        model: theta.
        rates: alpha, for ``reckoning``.
        encoder: tasks into tensors.
        inner_steps: N at evaluation, for ``reckoning``.
        optimizer: the inner one, for ``reckoning``.
        form: of the fast weights.
        facts_per_pass: facts of each task that an inner step reads at a time; 0 for all.
        max_answer_tokens: cap of greedy decoding.
        tasks_per_batch: how many tasks are answered at once.
        processes: that share the tasks; None where each answers all, as sharded models ask, whose processes gather
            their matrices together.
    """

    method: str
    model: torch.nn.Module
    rates: InnerRates | None
    encoder: TaskEncoder
    inner_steps: int
    optimizer: InnerOptimizer = field(default_factory=GradientDescent)
    form: Form = "auto"
    facts_per_pass: int = 0
    max_answer_tokens: int = 8
    tasks_per_batch: int = 64
    processes: Processes | None = field(default_factory=Processes)

    def answer(self, tasks: Sequence[Task], on_batch: Callable[[int], None] = lambda done: None) -> Answers:
        """Answer every task's first question; ``on_batch`` hears how many all processes answered in the meantime."""
        # tasks of like size go together, so that little is padded; results come back in the order asked
        order = sorted(range(len(tasks)), key=lambda index: len(tasks[index].facts))
        batches = [order[start : start + self.tasks_per_batch] for start in range(0, len(order), self.tasks_per_batch)]
        index, number = (0, 1) if self.processes is None else (self.processes.index, self.processes.number)
        own: list[tuple[list[int], list[str], Tensor, Tensor]] = []
        for start in range(0, len(batches), number):
            meanwhile = batches[start : start + number]
            for places in meanwhile[index : index + 1]:
                texts, nll, losses = self._answer_batch([tasks[place] for place in places])
                own.append((places, texts, nll.cpu(), losses.cpu()))
            on_batch(sum(map(len, meanwhile)))
        found = own if self.processes is None else self.processes.gathered(own)
        column = torch.tensor([place for places, *_ in found for place in places], dtype=torch.long).argsort()
        all_texts = [text for _, texts, _, _ in found for text in texts]
        return Answers(
            texts=[all_texts[index] for index in column.tolist()],
            nll=torch.cat([nll for _, _, nll, _ in found])[column],
            inner_losses=torch.cat([losses for *_, losses in found], dim=1)[:, column],
        )

    def _answer_batch(self, tasks: list[Task]) -> tuple[list[str], Tensor, Tensor]:
        first_only = [_first_question(task) for task in tasks]
        logits_of, losses = self._next_logits(tasks)
        with torch.no_grad():
            rows = (
                self.encoder.in_context(first_only, recall=False).answers
                if self.method == "in_context"
                else self.encoder.questions(first_only)
            )
            nll = answer_nll(logits_of(rows.inputs[:, 0]).unsqueeze(1), rows.tokens, rows.scored, rows.rows)
            prompts = self.encoder.question_prompts(tasks, with_facts=self.method == "in_context")
            answers = greedy(
                logits_of,
                prompts,
                self.max_answer_tokens,
                self.encoder.end,
                self.encoder.pad,
                self.encoder.device,
                self.encoder.max_tokens,
            )
        return self.encoder.tokenizer.batch_decode(answers, skip_special_tokens=True), nll, losses

    def _next_logits(self, tasks: list[Task]) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """The function from tokens [B, T] to logits [B, T, V], and the inner losses on the way to it."""
        if self.method != "reckoning":
            return partial(logits_of, self.model), torch.empty(0, len(tasks))
        facts = self.encoder.knowledge(tasks).facts
        fast = self._plan(facts).start(self.model, len(tasks))
        fast, losses = encode(fast, facts, self.rates, self.inner_steps, facts_per_pass=self.facts_per_pass)
        return lambda tokens: fast.logits(tokens.unsqueeze(1)).squeeze(1), losses

    def _plan(self, facts: TokenRows) -> FastWeightsPlan:
        return plan_fast_weights(
            self.model,
            self.rates.names,
            self.form,
            num_tasks=len(facts.tokens),
            num_tokens=facts.inputs[0].numel(),
            num_steps=self.inner_steps,
            optimizer=self.optimizer,
        )


def greedy(
    logits_of: Callable[[Tensor], Tensor],
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    end: int,
    pad: int,
    device: torch.device | str,
    max_tokens: int | None = None,
) -> list[list[int]]:
    """The likeliest token, one after another, up to the end token (left out) or ``max_new_tokens``.

    What follows a row of ``max_tokens``, the most that the model reads, is its last token.

    The whole row is read again for every token, so nothing but right padding is asked of the model.
    """
    rows, answers = [list(prompt) for prompt in prompts], [[] for _ in prompts]
    open_rows = set(range(len(rows)))
    for _ in range(max_new_tokens):
        length = max(len(row) for row in rows)
        tokens = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=device)
        last = torch.tensor([len(row) - 1 for row in rows], device=device)
        chosen = logits_of(tokens)[torch.arange(len(rows), device=device), last].argmax(-1).tolist()
        for index in sorted(open_rows):
            if chosen[index] == end:
                open_rows.discard(index)
            else:
                answers[index].append(chosen[index])
                if len(rows[index]) == max_tokens:
                    open_rows.discard(index)
                else:
                    rows[index].append(chosen[index])
        if not open_rows:
            break
    return answers


def same_answer(given: str, gold: str) -> bool:
    """Equal after lower-casing and without articles and punctuation (paper's metric; ``paper.md`` 3).

    Lists may have spaces after their commas, which a word-level tokenizer puts there; and an answer that is nothing but
    an article (the letter a) stays.
    """
    return _normalise(given) == _normalise(gold)


def accuracy_table(tasks: Sequence[Task], texts: Sequence[str]) -> Table:
    """Label accuracy of the first questions, by their hops in rising order."""
    right: dict[int, list[bool]] = defaultdict(list)
    for task, text in zip(tasks, texts, strict=True):
        question = task.questions[0]
        right[question.hops].append(same_answer(text, question.answer))
    return {
        str(hops): {"n": len(hits), "label_accuracy": sum(hits) / len(hits)} for hops, hits in sorted(right.items())
    }


def overall(table: Table) -> float:
    """Label accuracy over all questions of a table."""
    return sum(row["n"] * row["label_accuracy"] for row in table.values()) / sum(row["n"] for row in table.values())


def _first_question(task: Task) -> Task:
    return Task(facts=task.facts, questions=task.questions[:1], identifier=task.identifier)


def _normalise(text: str) -> str:
    words = re.sub(r"[^\w\s]", "", text.lower().replace(",", " ")).split()
    return " ".join([word for word in words if word not in ("a", "an", "the")] or words)
