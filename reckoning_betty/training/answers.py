"""What a run keeps of its answers: every one of the test, and the tables made of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.data.task import Splits, Task
from reckoning_betty.evaluation import Answers, accuracy_table
from reckoning_betty.recall import recall_table


def tables_of(splits: Splits, validation: Answers, test: Answers | None, recall: bool) -> dict[str, Any]:
    """Label accuracy of both splits by hops and by gold answer; with ``recall``, their knowledge recall by hops."""
    answered = {"validation": (splits.validation, validation)} | ({"test": (splits.test, test)} if test else {})
    tables: dict[str, Any] = {
        name: {split: accuracy_table(tasks, given.texts, by) for split, (tasks, given) in answered.items()}
        for name, by in (("label_accuracy", "hops"), ("label_accuracy_by_answer", "answer"))
    }
    tables["label_accuracy"].setdefault("test", {})
    if recall:
        tables["knowledge_recall"] = {
            split: recall_table(tasks, given.recalled) for split, (tasks, given) in answered.items()
        }
        tables["knowledge_recall"].setdefault("test", {})
    return tables


def write_answers(file: Path, tasks: Sequence[Task], answers: Answers) -> None:
    """One JSON object a line: the task's first question, its gold answer, and what was given and recalled."""
    lines = []
    for task, given, recalled in zip(tasks, answers.texts, answers.recalled, strict=True):
        first = task.questions[0]
        line = {"task": task.identifier, "hops": first.hops, "question": first.text, "answer": first.answer}
        line |= {"given": given.strip()} | ({"recalled": recalled} if recalled else {})
        lines.append(json.dumps(line, ensure_ascii=False))
    file.parent.mkdir(exist_ok=True)
    replace_file(file, lambda new: new.write_text("\n".join(lines) + "\n", encoding="utf-8"))
