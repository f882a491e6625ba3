"""Tasks into padded token tensors. Letters: B tasks, R rows (facts or questions), T tokens.

Padding is exact: rows are padded on the right, where a causal decoder cannot see it, tasks with fewer rows get empty
rows, and masks keep both out of every mean, so a padded batch equals its tasks one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from reckoning_betty.data.packing import Packing, pack
from reckoning_betty.data.task import Question, Task
from reckoning_betty.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRows:
    """Rows of B tasks."""

    tokens: Tensor
    """Ids, [B, R, T]."""
    scored: Tensor
    """bool [B, R, T]: tokens whose likelihood the row is about (a fact's words, an answer)."""
    rows: Tensor
    """bool [B, R]: rows that exist; the others are padding."""
    packing: Packing | None = None
    """How a model reads the inputs and predicts the targets in fewer tokens."""

    @property
    def inputs(self) -> Tensor:
        """What a model reads to predict the row, [B, R, T-1]: all but the last token, which predicts nothing."""
        return self.tokens[..., :-1]

    @property
    def targets(self) -> Tensor:
        """What it predicts, [B, R, T-1]."""
        return self.tokens[..., 1:]

    @property
    def num_tokens(self) -> int:
        """What it reads of each task, padding included."""
        return (self.inputs if self.packing is None else self.packing.positions)[0].numel()


def of_rows(batch: TokenRows, part: slice) -> TokenRows:
    """Some of the rows of each task, not packed."""
    return TokenRows(tokens=batch.tokens[:, part], scored=batch.scored[:, part], rows=batch.rows[:, part])


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """The facts of B tasks, each fact a row of its own."""

    facts: TokenRows
    relevant: Tensor
    """bool [B, R]: facts that some question of the task needs; the multi-task objective scores these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRows:
    """Questions, with or without their facts in the prompt, each followed by its answer and its relevant facts."""

    answers: TokenRows
    """``scored`` marks the answer."""
    recalled: Tensor
    """bool [B, R, T]: the tokens of the relevant facts that follow the answer."""


Batch = TypeVar("Batch")


def of_tasks(batch: Batch, part: slice) -> Batch:
    """Some of the tasks of one of the above, of a tensor [B, ...] or of a tuple of such; padded as the whole is."""
    if isinstance(batch, Tensor):
        return batch[part]
    if isinstance(batch, tuple):
        return tuple(of_tasks(element, part) for element in batch)
    if batch is None:
        return None
    return type(batch)(**{field.name: of_tasks(getattr(batch, field.name), part) for field in fields(batch)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """How facts and questions stand before the model.

    Raises:
        UserError: a template lacks its placeholder.
    """

    fact: str = "{fact}"
    question: str = "{question}"
    in_context: str = "{facts}\n{question}"
    because: str = " because {facts}"
    """What follows the answer in the in-context multi-task objective (paper, appendix; ``research/paper.md`` 3)."""
    backwards: bool = False
    """Whether inner steps read each fact a second time, token by token from its end (``inner.backwards``)."""

    def __post_init__(self):
        needed = {"fact": ("{fact}",), "question": ("{question}",), "in_context": ("{facts}", "{question}")}
        for name, placeholders in needed.items():
            for placeholder in placeholders:
                if placeholder not in getattr(self, name):
                    raise UserError(f"The prompt '{name}' must contain {placeholder}, but is {getattr(self, name)!r}.")

    def recalled(self, text: str) -> str:
        """The facts in what was decoded behind an answer: what the template says before and after them is taken off."""
        before, _, after = self.because.partition("{facts}")
        return text.strip().removeprefix(before.strip()).removesuffix(after.strip()).strip()


class TaskEncoder:
    """Turns tasks into tensors with one tokenizer and one set of prompts.

    Args:
        tokenizer: any tokenizer with an end-of-sequence token, which ends every answer.
        prompts: templates.
        device: where the tensors go.
        max_tokens: the most that the model can read of a row, whose last token is predicted and not read.
        packs: whether short rows are packed, for a model that ``reads_packed_rows``.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Prompts,
        device: torch.device | str = "cpu",
        max_tokens: int | None = None,
        packs: bool = False,
    ):
        self.packs = packs
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.device = device
        self.max_tokens = max_tokens
        self.end = tokenizer.eos_token_id
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end

    def knowledge(self, tasks: Sequence[Task]) -> Knowledge:
        """The facts; all tokens of a fact are scored but the prompt's before it and the row's first.

        Backwards, they stand again behind the task's facts, in the same order; ``relevant`` does not mark those.
        """
        before, after = self.prompts.fact.split("{fact}", 1)
        head = len(self._tokenize([before], start=True)[0]) if before.strip() else 0
        texts = [before + fact + after for task in tasks for fact in task.facts]
        tokenized = iter(self._tokenize(texts, start=True))
        rows = [[next(tokenized) for _ in task.facts] for task in tasks]
        if self.prompts.backwards:
            rows = [facts + [self._backwards(row, head) for row in facts] for facts in rows]
        pieces = [[[(row[:head], False), (row[head:], True)] for row in facts] for facts in rows]
        relevant = self._empty(len(tasks), max(map(len, rows)))
        for index, task in enumerate(tasks):
            relevant[index, sorted({fact for question in task.questions for fact in question.relevant})] = True
        return Knowledge(facts=self._pad(pieces)[0], relevant=relevant.to(self.device))

    def _backwards(self, row: list[int], head: int) -> list[int]:
        """The fact's tokens from its end; what begins a sequence, and the prompt, stay where they are."""
        start = head or int(row[:1] == [self.tokenizer.bos_token_id])
        return row[:start] + row[start:][::-1]

    def questions(self, tasks: Sequence[Task]) -> TokenRows:
        """Questions without facts, answers scored."""
        return self.without_facts(tasks, recall=False).answers

    def without_facts(self, tasks: Sequence[Task], recall: bool) -> ContextRows:
        """The same; with ``recall`` the relevant facts stand behind the answer."""
        prompts = [[self.prompts.question.format(question=q.text) for q in task.questions] for task in tasks]
        answers, recalled = self._answered(tasks, prompts, recall)
        return ContextRows(answers=answers, recalled=recalled)

    def in_context(self, tasks: Sequence[Task], recall: bool) -> ContextRows:
        """Questions after their facts; with ``recall`` the relevant facts stand again behind the answer."""
        prompts = [[self._context_prompt(task, q) for q in task.questions] for task in tasks]
        answers, recalled = self._answered(tasks, prompts, recall)
        return ContextRows(answers=answers, recalled=recalled)

    def question_prompts(self, tasks: Sequence[Task], with_facts: bool) -> list[list[int]]:
        """Prompt ids of each task's first question, for decoding."""
        if with_facts:
            return self._tokenize([self._context_prompt(task, task.questions[0]) for task in tasks], start=True)
        return self._tokenize([self.prompts.question.format(question=t.questions[0].text) for t in tasks], start=True)

    def check_length(self, length: int) -> None:
        """
        Raises:
            UserError: the model cannot read a row of ``length`` tokens, the last of which is predicted and not read.
        """
        if self.max_tokens is not None and length - 1 > self.max_tokens:
            raise UserError(
                f"A row of {length} tokens does not fit a model of {self.max_tokens}: shorten facts or questions, "
                "or take a model with a longer context (model.context for the small GPT-2)."
            )

    def _context_prompt(self, task: Task, question: Question) -> str:
        return self.prompts.in_context.format(facts="\n".join(task.facts), question=question.text)

    def _answered(
        self, tasks: Sequence[Task], prompts: Sequence[Sequence[str]], recall: bool
    ) -> tuple[TokenRows, Tensor]:
        """Rows ``prompt answer end [because facts end]``; the marks of the answer and of the recalled facts."""
        questions = [(task, q) for task in tasks for q in task.questions]
        heads = iter(self._tokenize([prompt for row in prompts for prompt in row], start=True))
        answers = iter(self._tokenize([f" {q.answer}" for _, q in questions], start=False))
        tails: list[list[int]] = [[] for _ in questions]
        if recall:
            facts = ["\n".join(task.facts[fact] for fact in q.relevant) for task, q in questions]
            tails = [
                [*ids, self.end]
                for ids in self._tokenize([self.prompts.because.format(facts=f) for f in facts], start=False)
            ]
        tail = iter(tails)
        pieces = [
            [[(next(heads), False), ([*next(answers), self.end], True), (next(tail), None)] for _ in task.questions]
            for task in tasks
        ]
        return self._pad(pieces)

    def _tokenize(self, texts: list[str], start: bool) -> list[list[int]]:
        """Token ids per text; special tokens of a sequence's beginning only where it begins."""
        return self.tokenizer(texts, add_special_tokens=start, return_attention_mask=False)["input_ids"]

    def _pad(self, tasks: list[list[list[tuple[list[int], bool | None]]]]) -> tuple[TokenRows, Tensor]:
        """Rows made of (ids, mark) pieces; mark True is scored, None is recalled, False is neither."""
        num_rows = max(len(rows) for rows in tasks)
        length = max(sum(len(ids) for ids, _ in row) for rows in tasks for row in rows)
        if length < 2:
            raise UserError(
                f"{type(self.tokenizer).__name__} finds {length} tokens in the longest fact or question, so there is "
                "nothing to predict: give longer ones, or save a tokenizer of its own kind beside the model."
            )
        self.check_length(length)
        # lists first, tensors once: a tensor for every piece would take as long as an inner step
        tokens, scored, recalled = [], [], []
        for rows in tasks:
            for row in rows:
                ids = [token for piece, _ in row for token in piece]
                marks = [mark for piece, mark in row for _ in piece]
                rest = length - len(ids)
                tokens.append(ids + [self.pad] * rest)
                scored.append([mark is True for mark in marks] + [False] * rest)
                recalled.append([mark is None for mark in marks] + [False] * rest)
            for _ in range(num_rows - len(rows)):
                tokens.append([self.pad] * length)
                scored.append([False] * length)
                recalled.append([False] * length)
        exists = [[r < len(rows) for r in range(num_rows)] for rows in tasks]

        def rows_of(values: list[list]) -> Tensor:
            return torch.tensor(values).view(len(tasks), num_rows, length).to(self.device)

        packing = None
        if self.packs:
            # of what is read; a row may have no token at all
            lengths = [[max(0, sum(len(ids) for ids, _ in row) - 1) for row in rows] for rows in tasks]
            packing = pack(lengths, (num_rows, length - 1), self.max_tokens)
        rows_ = TokenRows(
            tokens=rows_of(tokens),
            scored=rows_of(scored),
            rows=torch.tensor(exists, device=self.device),
            packing=None if packing is None else packing.to(self.device),
        )
        return rows_, rows_of(recalled)

    @staticmethod
    def _empty(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.bool)
