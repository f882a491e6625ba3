"""Ask a trained model about facts of your own: launch/ask.py --checkpoint DIR --facts FILE --question TEXT"""

import sys
from pathlib import Path

try:
    import torch

    from reckoning_betty.answering import answerer_of, read_facts, unknown_words
    from reckoning_betty.checkpoint import load_checkpoint
    from reckoning_betty.command_line import OneSentenceParser, run_command
    from reckoning_betty.data.task import Question, Task
    from reckoning_betty.errors import UserError
    from reckoning_betty.inner.losses import UNIT
except ImportError as error:
    sys.exit(f"error: {error}")


def arguments() -> OneSentenceParser:
    parser = OneSentenceParser(prog="launch/ask.py", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the checkpoint folder of a run")
    parser.add_argument("--facts", type=Path, required=True, help="text file with one fact a line")
    parser.add_argument("--question", action="append", required=True, help="a question; may be given several times")
    parser.add_argument("--inner-steps", type=int, help="inner steps; without it as many as trained")
    return parser


def main() -> None:
    given = arguments().parse_args()
    for question in given.question:
        if not question.strip():
            raise UserError(f"--question {question!r} is empty; write a question about the facts.")
    checkpoint = load_checkpoint(given.checkpoint)
    facts = read_facts(given.facts)
    answerer = answerer_of(checkpoint, torch.device("cuda" if torch.cuda.is_available() else "cpu"), given.inner_steps)
    strange = unknown_words(checkpoint.tokenizer, [*facts, *given.question])
    if strange:
        print(f"note: the model has never seen {', '.join(strange)}, and reads each as unknown.", file=sys.stderr)
    tasks = [
        Task(facts=facts, questions=(Question(text=question, answer="", hops=0, relevant=()),))
        for question in given.question
    ]
    answers = answerer.answer(tasks)
    if answers.inner_losses.numel():
        print(f"Loss of the facts ({UNIT[checkpoint.reduction]}) before each inner step and after the last:")
        print("  " + "  ->  ".join(f"{loss:.3f}" for loss in answers.inner_losses[:, 0].tolist()))
    for question, text in zip(given.question, answers.texts, strict=True):
        print(f"{question}  {text.strip() or '(no answer)'}")


if __name__ == "__main__":
    run_command(main)
