"""Label accuracy by hops: greedy answers from adapted weights, or from a prompt, against the gold answers.

Letters: B tasks, T tokens, V vocabulary.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from reckoning_betty.config import Method, has_facts_in_prompt, has_inner_level
from reckoning_betty.data.collate import TaskEncoder, TokenRows
from reckoning_betty.data.sanity import as_seen_by
from reckoning_betty.data.task import Task
from reckoning_betty.distributed.processes import Processes
from reckoning_betty.inner.encode import encode
from reckoning_betty.inner.fast_weights import FastWeightsPlan, Form, plan_fast_weights
from reckoning_betty.inner.losses import Reduction, answer_nll, token_nll
from reckoning_betty.inner.one_pass import logits_of
from reckoning_betty.inner.optimizers import GradientDescent, InnerOptimizer
from reckoning_betty.inner.rates import InnerRates

Table = dict[str, dict[str, float | int]]
"""{hops or gold answer: {"n": questions, "label_accuracy": share in [0, 1]}}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a method says to each task's first question."""

    texts: list[str]
    nll: Tensor
    """-log p(y | x) of the gold answer, [tasks], nats."""
    inner_losses: Tensor
    """L_CLM of the facts before inner step 0, 1, ... and after the last, [N + 1, tasks]; empty without inner level."""
    recalled: list[str]
    """What stands behind each answer, without the prompt's own words; empty texts where it was not decoded."""


@dataclass(slots=True, kw_only=True)
class Answerer:
    """Answers questions with a trained method.

    Args:
        method: one of ``config.Method``; tasks are altered as it sees them.
        model: theta.
        rates: alpha, where there is an inner level.
        encoder: tasks into tensors.
        inner_steps: N at evaluation.
        optimizer: the inner one.
        form: of the fast weights.
        facts_per_pass: facts of each task that an inner step reads at a time; 0 for all.
        reduction: of the inner loss, over facts.
        max_answer_tokens: cap of greedy decoding.
        max_recall_tokens: cap of decoding on behind the answer; 0 for not at all.
        tasks_per_batch: how many tasks are answered at once.
        processes: that share the tasks; None where each answers all, as sharded models ask, whose processes gather
            their matrices together.
    """

    method: Method
    model: torch.nn.Module
    rates: InnerRates | None
    encoder: TaskEncoder
    inner_steps: int
    optimizer: InnerOptimizer = field(default_factory=GradientDescent)
    form: Form = "auto"
    facts_per_pass: int = 0
    reduction: Reduction = "mean"
    max_answer_tokens: int = 8
    max_recall_tokens: int = 0
    tasks_per_batch: int = 64
    processes: Processes | None = field(default_factory=Processes)

    def answer(self, tasks: Sequence[Task], on_batch: Callable[[int], None] = lambda done: None) -> Answers:
        """Answer every task's first question; ``on_batch`` hears how many all processes answered in the meantime."""
        tasks = as_seen_by(self.method, tasks)
        # tasks of like size go together, so that little is padded; results come back in the order asked
        order = sorted(range(len(tasks)), key=lambda index: len(tasks[index].facts))
        batches = [order[start : start + self.tasks_per_batch] for start in range(0, len(order), self.tasks_per_batch)]
        index, number = (0, 1) if self.processes is None else (self.processes.index, self.processes.number)
        own: list[tuple[list[int], list[str], list[str], Tensor, Tensor]] = []
        for start in range(0, len(batches), number):
            meanwhile = batches[start : start + number]
            for places in meanwhile[index : index + 1]:
                texts, recalled, nll, losses = self._answer_batch([tasks[place] for place in places])
                own.append((places, texts, recalled, nll.cpu(), losses.cpu()))
            on_batch(sum(map(len, meanwhile)))
        found = own if self.processes is None else self.processes.gathered(own)
        column = torch.tensor([place for places, *_ in found for place in places], dtype=torch.long).argsort()
        all_texts = [text for _, texts, *_ in found for text in texts]
        all_recalled = [text for _, _, recalled, *_ in found for text in recalled]
        return Answers(
            texts=[all_texts[index] for index in column.tolist()],
            nll=torch.cat([nll for *_, nll, _ in found])[column],
            inner_losses=torch.cat([losses for *_, losses in found], dim=1)[:, column],
            recalled=[all_recalled[index] for index in column.tolist()],
        )

    def _answer_batch(self, tasks: list[Task]) -> tuple[list[str], list[str], Tensor, Tensor]:
        first_only = [_first_question(task) for task in tasks]
        logits_of, losses = self._next_logits(tasks)
        encoder, in_prompt = self.encoder, has_facts_in_prompt(self.method)
        with torch.no_grad():
            rows = encoder.in_context(first_only, False).answers if in_prompt else encoder.questions(first_only)
            of_tokens = token_nll(logits_of(rows.inputs[:, 0]), rows.targets[:, 0]).unsqueeze(1)
            nll = answer_nll(of_tokens, rows.scored, rows.rows)
            prompts = encoder.question_prompts(tasks, with_facts=in_prompt)
            ends = encoder.end, encoder.pad, encoder.device, encoder.max_tokens
            answers = greedy(logits_of, prompts, self.max_answer_tokens, *ends)
            recalled: list[list[int]] = [[] for _ in answers]
            if self.max_recall_tokens:
                prompts = [[*prompt, *answer, encoder.end] for prompt, answer in zip(prompts, answers, strict=True)]
                recalled = greedy(logits_of, prompts, self.max_recall_tokens, *ends)
        return self._text_of(answers), [encoder.prompts.recalled(text) for text in self._text_of(recalled)], nll, losses

    def _text_of(self, rows: list[list[int]]) -> list[str]:
        return self.encoder.tokenizer.batch_decode(rows, skip_special_tokens=True)

    def _next_logits(self, tasks: list[Task]) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """The function from tokens [B, T] to logits [B, T, V], and the inner losses on the way to it."""
        if not has_inner_level(self.method):
            return partial(logits_of, self.model), torch.empty(0, len(tasks))
        facts = self.encoder.knowledge(tasks).facts
        fast = self._plan(facts).start(self.model, len(tasks))
        options = {"facts_per_pass": self.facts_per_pass, "reduction": self.reduction}
        fast, losses = encode(fast, facts, self.rates, self.inner_steps, **options)
        return lambda tokens: fast.logits(tokens.unsqueeze(1)).squeeze(1), losses

    def _plan(self, facts: TokenRows) -> FastWeightsPlan:
        return plan_fast_weights(
            self.model,
            self.rates.names,
            self.form,
            num_tasks=len(facts.tokens),
            num_tokens=facts.num_tokens,
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


def accuracy_table(tasks: Sequence[Task], texts: Sequence[str], by: Literal["hops", "answer"] = "hops") -> Table:
    """Label accuracy of the first questions, by their hops or by their gold answer, in rising order."""
    right: dict[int | str, list[bool]] = defaultdict(list)
    for task, text in zip(tasks, texts, strict=True):
        question = task.questions[0]
        right[getattr(question, by)].append(same_answer(text, question.answer))
    return {str(key): {"n": len(hits), "label_accuracy": sum(hits) / len(hits)} for key, hits in sorted(right.items())}


def overall(table: Table, measure: str = "label_accuracy") -> float:
    """A table's measure over all its questions."""
    return sum(row["n"] * row[measure] for row in table.values()) / sum(row["n"] for row in table.values())


def _first_question(task: Task) -> Task:
    return Task(facts=task.facts, questions=task.questions[:1], identifier=task.identifier)


def _normalise(text: str) -> str:
    words = re.sub(r"[^\w\s]", "", text.lower().replace(",", " ")).split()
    return " ".join([word for word in words if word not in ("a", "an", "the")] or words)
