"""Every kind of bad input ends in one sentence and a status above 0, without a traceback and without a changed file."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import accelerate
import huggingface_hub
import pytest
from launching import TINY, call, clutrr_rows, contents, ended, start, write_csv
from safetensors.torch import load_file, save_file

TRAIN = ("train", "--problem", "clutrr", *TINY)
NEW = (*TRAIN, "--output", "new")
RESUME = ("train", "--problem", "clutrr", "--output", "run", "--resume")
EVALUATE = ("evaluate", "--problem", "clutrr", "--checkpoint", "run/checkpoint")
ASK = ("ask", "--checkpoint", "run/checkpoint", "--facts", "facts.txt")
QUESTION = ("--question", "How is Ada related to Alma ?")


@dataclasses.dataclass(frozen=True)
class Case:
    """A command line, what its one sentence must mention, and how the folder is prepared for it."""

    name: str
    command: tuple
    says: tuple[str, ...]
    prepare: Callable[[Path], object] = lambda folder: None


def written(name: str, content: str | bytes) -> Callable[[Path], object]:
    """A preparation that writes a file."""

    def write(folder: Path) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def cut(name: str, share: float = 0.5) -> Callable[[Path], object]:
    """A preparation that leaves only the first part of a file."""

    def shorten(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return shorten


def note(**changed) -> Callable[[Path], object]:
    """A preparation that changes entries of the checkpoint's note."""

    def change(folder: Path) -> None:
        file = folder / "run/checkpoint/reckoning.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return change


def table(*, drop: str = "", number: int = 4, name: str = "data/x_train.csv", **changed) -> Callable[[Path], object]:
    """A preparation that writes rows with changed cells, or without a column."""

    def write(folder: Path) -> None:
        columns = tuple(column for column in clutrr_rows(1)[0] if column != drop)
        write_csv(folder / name, [row | changed for row in clutrr_rows(number, "train")], columns)

    return write


def other_rates(folder: Path) -> None:
    """The rates of a model with one layer more."""
    file = folder / "run/checkpoint/reckoning.json"
    content = json.loads(file.read_text())
    content["inner"]["rows"].append("layer 1")
    file.write_text(json.dumps(content))


def weights_lost(folder: Path) -> None:
    """A weight file that is whole but lacks a tensor, which transformers would fill with random numbers."""
    file = folder / "run/checkpoint/model.safetensors"
    tensors = load_file(file)
    del tensors["transformer.h.0.attn.c_attn.weight"]
    save_file(tensors, file, {"format": "pt"})


def weights_of_another_width(folder: Path) -> None:
    """The model's config tells another width than its weights have."""
    file = folder / "run/checkpoint/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"n_embd": 32}))


COMMAND_LINE = [
    Case("no problem", ("train",), ("--problem", "--help")),
    Case("unknown problem", ("train", "--problem", "cluttr"), ("'cluttr'", "did you mean 'clutrr'", "takes one of")),
    Case("unknown problem, ask none", ("evaluate", *EVALUATE[3:], "--problem", "x"), ("'x'", "takes one of", "clutrr")),
    Case("unknown flag", (*NEW, "--steps", "3"), ("--steps", "--help")),
    Case("unknown flag of evaluate", (*EVALUATE, "--split", "test"), ("--split", "--help")),
    Case("not key=value", (*NEW, "inner.steps"), ("'inner.steps'", "key=value", "inner.steps=6")),
    Case("key missing", (*NEW, "=6"), ("'=6'", "key=value")),
    Case("override twice", (*NEW, "seed=1", "seed=2"), ("'seed'", "'seed=1' and 'seed=2'", "keep one")),
    Case("unknown key", (*NEW, "inner.step=6"), ("'inner.step'", "did you mean 'inner.steps'")),
    Case("unknown key unlike all", (*NEW, "inner.zzz=6"), ("'inner.zzz'", "known are", "initial_rate")),
    Case("unknown section", (*NEW, "iner.steps=6"), ("'iner'", "did you mean 'inner'")),
    Case("unknown data option", (*NEW, "data.hop=[2]"), ("'data.hop'", "did you mean 'data.hops'")),
    Case("scalar for a section", (*NEW, "inner=6"), ("'inner'", "section", "initial_rate")),
    Case("section for a scalar", (*NEW, "seed.x=6"), ("seed.x=6",)),
    Case("wrong type", (*NEW, "reckoning.clip_norm=high"), ("reckoning.clip_norm", "high", "Float")),
    Case("wrong choice", (*NEW, "method=maml"), ("method", "maml", "reckoning", "in_context", "no_facts")),
    Case("wrong item of a list", (*NEW, "data.questions_per_task=[a]"), ("data.questions_per_task",)),
    Case("value not YAML", (*NEW, "model.name=[a"), ("'model.name=[a'", "not YAML")),
    Case("key with a stray dot", (*NEW, "inner.=3"), ("inner.",)),
    Case("interpolation", (*NEW, "model.revision=${nothing}"), ("nothing",)),
    Case("interpolated section", (*NEW, "inner=${nothing}"), ("inner",)),
    Case("out of range", (*NEW, "inner.initial_rate=0"), ("inner.initial_rate=0", "positive")),
    Case("no outer steps", (*NEW, "seed=3", "no_facts.patience=-1"), ("no_facts.patience=-1", "negative")),
    Case("seed too large", (*NEW, f"seed={2**70}"), (f"seed={2**70}", "between")),
    Case("width and heads", (*NEW, "evaluation.inner_steps=-1"), ("evaluation.inner_steps=-1",)),
    Case("fused attention", (*NEW, "model.attention=sdpa"), ("model.attention=sdpa", "use model.attention=eager")),
    Case("unknown baseline", (*NEW, "baselines=[maml]"), ("baselines=maml", "reckoning, in_context, no_facts")),
    Case("baseline twice", (*NEW, "baselines=[no_facts,no_facts]"), ("baselines", "once")),
    Case("baseline is the method", (*NEW, "baselines=[reckoning]"), ("baselines", "once")),
    Case("no validation", (*RESUME[:3], "--output", "new", "data.validation_stories=0"), ("validation_stories=0",)),
    Case("negative stories", (*RESUME[:3], "--output", "new", "data.test_stories=-1"), ("test_stories=-1",)),
    Case("hops out of range", (*RESUME[:3], "--output", "new", "data.hops=[11]"), ("hops is 11", "between 2 and 10")),
    Case("too few names", (*NEW, "data.num_names=4"), ("num_names is 4", "num_names=5 or more")),
    Case("too few of either gender", (*NEW, "data.families=4"), ("num_names is 20", "families=4", "num_names=32")),
    Case(
        "width not divisible",
        ("train", "--problem", "clutrr", "--output", "new", "model.width=10", "model.heads=3"),
        ("model.width=10", "multiple of model.heads=3"),
    ),
    Case(
        "row longer than the context",
        ("train", "--problem", "clutrr", "--output", "new", "model.context=16"),
        ("16", "model.context"),
    ),
    Case("no question", ASK, ("--question", "--help")),
    Case("empty question", (*ASK, "--question", " "), ("--question ' '", "empty")),
    Case("long question", (*ASK, "--question", "Ada " * 100), ("64", "shorten")),
    Case("inner steps 0", (*ASK, *QUESTION, "--inner-steps", "0"), ("--inner-steps 0", "at least 1")),
    Case("inner steps no number", (*ASK, *QUESTION, "--inner-steps", "x"), ("--inner-steps", "'x'", "--help")),
    Case(
        "inner steps without inner level",
        ("ask", "--checkpoint", "run/baselines/no_facts", *ASK[3:], *QUESTION, "--inner-steps", "3"),
        ("--inner-steps 3", "no_facts has no inner level"),
    ),
]

CONFIG_FILES = [
    Case("config missing", (*NEW, "--config", "no.yaml"), ("no.yaml", "does not exist", "--config")),
    Case("config is a folder", (*NEW, "--config", "run"), ("run", "folder", "--config")),
    Case("config not YAML", (*NEW, "--config", "c"), ("c", "line 2", "not YAML"), written("c", "seed: 1\n\tx: [")),
    Case("config is a list", (*NEW, "--config", "c"), ("c", "'key: value'"), written("c", "- seed\n- 1\n")),
    Case("config is a word", (*NEW, "--config", "c"), ("c", "'hello'", "known are"), written("c", "hello")),
    Case("config binary", (*NEW, "--config", "c"), ("c", "not YAML"), written("c", bytes(range(256)))),
    Case("config of another problem", (*NEW, "--config", "c"), ("'folio'", "clutrr"), written("c", "problem: folio")),
    Case("config with unknown key", (*NEW, "--config", "c"), ("c", "'sed'", "'seed'"), written("c", "sed: 1")),
    Case("config with empty section", (*NEW, "--config", "c"), ("c", "'inner'", "section"), written("c", "inner:")),
]

DATA = [
    Case("data missing", (*NEW, "--data", "none.csv"), ("none.csv", "not found", "give a folder")),
    Case("data missing for evaluate", (*EVALUATE, "--data", "./none"), ("none", "not found", "give a folder")),
    Case("folder without CSV", (*NEW, "--data", "data"), ("data", "give a folder"), written("data/read.me", "x")),
    Case(
        "only test rows", (*NEW, "--data", "x.csv"), ("x.csv", "no training rows"), table(name="x.csv", task_split="")
    ),
    Case("column missing", (*NEW, "--data", "data"), ("x_train.csv, line 1", "edge_types"), table(drop="edge_types")),
    Case("bad literal", (*NEW, "--data", "data"), ("line 2, column query", "'(Tom'"), table(query="(Tom")),
    Case("unknown relation", (*NEW, "--data", "data"), ("line 2", "'boss'", "mother"), table(target="boss")),
    Case("unknown split", (*EVALUATE, "--data", "x.csv"), ("'dv'", "dev"), table(name="x.csv", task_split="dv")),
    Case("distractors", (*NEW, "--data", "data"), ("distractors", "form=sentences"), table(edge_types="['sister']")),
    Case("one story", (*NEW, "--data", "data"), ("too few training stories (1)", "so 2 are needed"), table(number=1)),
    Case("header alone", (*NEW, "--data", "data"), ("no rows",), table(number=0)),
    Case("empty CSV", (*NEW, "--data", "data"), ("x_train.csv is empty",), written("data/x_train.csv", "")),
    Case("binary CSV", (*NEW, "--data", "x.csv"), ("x.csv, line", "UTF-8"), written("x.csv", bytes(range(256)))),
    Case("no gzip", (*EVALUATE, "--data", "x.csv.gz"), ("x.csv.gz", "gzip"), written("x.csv.gz", "hello")),
    Case("unknown form for evaluate", (*EVALUATE, "form=verse"), ("form", "verse", "symbolic", "sentences")),
    Case("unknown option for evaluate", (*EVALUATE, "from=symbolic"), ("'from'", "'form'")),
    Case("facts missing", (*ASK[:3], "--facts", "none", *QUESTION), ("--facts none", "one fact a line")),
    Case("facts a folder", (*ASK[:3], "--facts", "run", *QUESTION), ("--facts run", "one fact a line")),
    Case("facts empty", (*ASK, *QUESTION), ("facts.txt", "no facts"), written("facts.txt", "\n \n")),
    Case("facts binary", (*ASK, *QUESTION), ("facts.txt", "UTF-8"), written("facts.txt", bytes(range(256)))),
]

FOLIO = ("train", "--problem", "folio", "--output", "new")
FOLIO_DATA = (*FOLIO, "--data", "data")
BABI = ("train", "--problem", "babi", "--output", "new")
BABI_DATA = (*BABI, "--data", "data", "data.tasks=[]")
LETTERS = ("train", "--problem", "letters", "--output", "new")


def folio_rows(**changed) -> Callable[[Path], object]:
    """A preparation that writes three rows of FOLIO's format, of which the last has changed cells (None: left out)."""
    row = {"premises": ["All birds sing.", "Bo is a bird."], "conclusion": "Bo sings.", "label": "True"}
    last = {key: value for key, value in (row | changed).items() if value is not None}
    return written("data/folio-train.jsonl", "".join(json.dumps(cells) + "\n" for cells in (row, row, last)))


def babi_lines(last: str) -> Callable[[Path], object]:
    """A preparation that writes a story of bAbI's format whose third line is ``last``."""
    return written("data/qa1_x_train.txt", f"1 Mary ran.\n2 Mary sat.\n{last}\n")


OTHER_PROBLEMS = [
    Case("folio without data", FOLIO, ("folio has no embedded data", "--data takes a folder", "yale-nlp/FOLIO")),
    Case("folio missing", (*FOLIO, "--data", "./no.jsonl"), ("no.jsonl was not found", "folio-train.jsonl")),
    Case("folio of one premise set", FOLIO_DATA, ("too few training premise sets (1)", "3 are needed"), folio_rows()),
    Case("folio label", FOLIO_DATA, ("line 3, column label", "'Maybe'", "Uncertain"), folio_rows(label="Maybe")),
    Case("folio column", FOLIO_DATA, ("line 3", "missing: conclusion", "label"), folio_rows(conclusion=None)),
    Case("folio premises", FOLIO_DATA, ("line 3, column premises", "at least one"), folio_rows(premises=[])),
    Case(
        "folio no JSON", FOLIO_DATA, ("line 1", "'Bo sings.' is no JSON"), written("data/x_train.jsonl", "Bo sings.\n")
    ),
    Case("folio fraction", (*FOLIO_DATA, "data.test_fraction=1"), ("data.test_fraction=1.0", "between 0 and 1")),
    Case("folio option", (*FOLIO_DATA, "data.test_fractoin=0.1"), ("did you mean 'data.test_fraction'",)),
    Case("another problem", ("evaluate", "--problem", "folio", *EVALUATE[3:]), ("run/checkpoint", "--problem clutrr")),
    Case("babi without data", BABI, ("babi has no embedded data", "--data takes a folder", "facebook/babi_qa")),
    Case("babi missing", (*BABI, "--data", "./no.txt"), ("no.txt was not found", "qa1_single-supporting-fact")),
    Case("babi line", BABI_DATA, ("qa1_x_train.txt, line 3", "'Mary'", "neither"), babi_lines("Mary")),
    Case("babi order", BABI_DATA, ("line 3", "number is 7", "3 (or 1"), babi_lines("7 Mary ran.")),
    Case("babi support", BABI_DATA, ("line 3", "supporting line 5"), babi_lines("3 Who ran?\tMary\t5")),
    Case(
        "babi tasks",
        (*BABI_DATA[:-1], "data.tasks=[1,4]"),
        ("data.tasks=[1, 4]", "of 4; take data.tasks=[1]"),
        babi_lines(""),
    ),
    Case("babi task 21", (*BABI_DATA[:-1], "data.tasks=[21]"), ("data.tasks=21", "1 to 20"), babi_lines("")),
    Case("babi tasks no list", (*BABI_DATA[:-1], "data.tasks=all"), ("data.tasks",), babi_lines("")),
    Case("babi questions", (*BABI_DATA, "data.questions_per_task=0"), ("data.questions_per_task=0", "1 or more")),
    Case("letters with data", (*LETTERS, "--data", "data"), ("--data data", "leave out --data")),
    Case("letters of one letter", (*LETTERS, "data.letters_per_fact=1"), ("data.letters_per_fact=1", "at least 2")),
    Case("letters no facts", (*LETTERS, "data.facts=0"), ("data.facts=0", "at least 1")),
    Case("letters questions", (*LETTERS, "data.questions_per_task=27"), ("data.questions_per_task=27", "1 to 26")),
    Case("letters no validation", (*LETTERS, "data.validation_tasks=0"), ("data.validation_tasks=0", "at least 1")),
    Case(
        "letters longer than the context",
        (*LETTERS, "data.letters_per_fact=127", "model.context=1022", "baselines=[in_context]", "objective=single"),
        ("1025 tokens", "a model of 1022", "model.context"),
    ),
]

OUTPUT_AND_MODEL = [
    Case("output not empty", (*TRAIN, "--output", "run"), ("run is not empty", "--resume")),
    Case("output is a file", (*TRAIN, "--output", "facts.txt"), ("facts.txt is a file", "name a folder")),
    Case("output below a file", (*TRAIN, "--output", "facts.txt/x"), ("facts.txt/x", "name a folder")),
    Case("output of evaluate is a folder", (*EVALUATE, "--output", "run"), ("--output run", "folder")),
    Case("output of evaluate below a file", (*EVALUATE, "--output", "facts.txt/x"), ("--output facts.txt/x",)),
    Case("resume with override", (*RESUME, "seed=3"), ("--resume", "leave out", "key=value")),
    Case("resume with config", (*RESUME, "--config", "run/config.yaml"), ("--resume", "leave out")),
    Case("resume without a run", (*RESUME[:3], "--output", "new", "--resume"), ("new holds no run", "--resume")),
    Case("resume below runs/", (*RESUME[:3], "--resume"), ("no run of clutrr below runs/", "--output")),
    Case("model folder missing", (*NEW, "model.name=./none"), ("model.name=./none", "no such folder")),
    Case("model without weights", (*NEW, "model.name=./run/checkpoint"), ("model.name", "transformer"), weights_lost),
    Case("model folder without model", (*NEW, "model.name=./run"), ("model.name=./run", "folder of a saved model")),
    Case(
        "weights cut", (*NEW, "model.name=./run/checkpoint"), ("model.name",), cut("run/checkpoint/model.safetensors")
    ),
]

DAMAGED = [
    Case("checkpoint missing", (*EVALUATE, "--checkpoint", "none"), ("--checkpoint none", "give the 'checkpoint'")),
    Case(
        "checkpoint is a run", (*EVALUATE, "--checkpoint", "run"), ("--checkpoint run", "did you mean run/checkpoint")
    ),
    Case("note cut", EVALUATE, ("reckoning.json is damaged",), cut("run/checkpoint/reckoning.json")),
    Case("note a list", EVALUATE, ("reckoning.json is damaged",), written("run/checkpoint/reckoning.json", "[]")),
    Case("note without method", EVALUATE, ("reckoning.json is damaged", "method"), note(method="maml")),
    Case("note with half an inner", EVALUATE, ("reckoning.json is damaged", "steps"), note(inner={"rates": "static"})),
    Case("note with odd rates", EVALUATE, ("reckoning.json is damaged",), note(inner={"steps": "x", "rates": 3})),
    Case("note with odd cap", EVALUATE, ("reckoning.json is damaged", "max_answer_tokens"), note(max_answer_tokens=0)),
    Case("note with odd data", EVALUATE, ("reckoning.json is damaged", "data"), note(data=[1])),
    Case("model cut", EVALUATE, ("--checkpoint run/checkpoint",), cut("run/checkpoint/model.safetensors")),
    Case("model config cut", (*ASK, *QUESTION), ("--checkpoint run/checkpoint",), cut("run/checkpoint/config.json")),
    Case("tokenizer cut", (*ASK, *QUESTION), ("--checkpoint run/checkpoint",), cut("run/checkpoint/tokenizer.json")),
    Case("model of another width", EVALUATE, ("--checkpoint run/checkpoint",), weights_of_another_width),
    Case("rates cut", EVALUATE, ("inner_rates.safetensors", "damaged"), cut("run/checkpoint/inner_rates.safetensors")),
    Case("rates of another model", EVALUATE, ("inner_rates.safetensors", "different runs"), other_rates),
    Case(
        "state cut",
        RESUME,
        ("resume/reckoning.pt", "damaged"),
        lambda folder: unfinished(folder, cut("run/resume/reckoning.pt")),
    ),
    Case(
        "state not a state",
        RESUME,
        ("resume/reckoning.pt",),
        lambda folder: unfinished(folder, written("run/resume/reckoning.pt", "x")),
    ),
    Case(
        "result cut",
        RESUME,
        ("resume/in_context.json", "damaged"),
        lambda folder: unfinished(folder, cut("run/resume/in_context.json"), lost=()),
    ),
    Case("saved config cut", RESUME, ("run/config.yaml",), cut("run/config.yaml", 0.5)),
    Case("saved config empty", RESUME, ("run/config.yaml", "incomplete"), cut("run/config.yaml", 0)),
]


def unfinished(
    folder: Path, damage: Callable[[Path], object], lost: tuple[str, ...] = ("resume/reckoning.json",)
) -> None:
    """Turn the run's clock back to before its summary, and to before the files ``lost``, then damage it."""
    for name in ("summary.json", *lost):
        (folder / "run" / name).unlink()
    damage(folder)


def assert_refused(result, says: tuple[str, ...], code: int = 2) -> None:
    """One sentence, with all of ``says``."""
    assert "Traceback" not in result.err
    assert len(result.said) == 1, result.err
    assert result.code == code
    sentence = result.said[0]
    assert sentence.startswith("error: ")
    assert [fragment for fragment in says if fragment not in sentence] == [], sentence


@pytest.fixture
def folder(run_copy, facts_file, monkeypatch):
    """The working directory: a finished run in ``run`` and two facts in ``facts.txt``."""
    monkeypatch.chdir(run_copy.parent)
    return run_copy.parent


@pytest.mark.parametrize(
    "case",
    [*COMMAND_LINE, *CONFIG_FILES, *DATA, *OTHER_PROBLEMS, *OUTPUT_AND_MODEL, *DAMAGED],
    ids=lambda case: case.name,
)
def test_bad_input_is_refused_in_one_sentence_and_no_file_changes(folder, case):
    case.prepare(folder)
    before = contents(folder)
    result = call(*case.command)
    print(result.err)
    assert_refused(result, case.says)
    assert contents(folder) == before


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_a_tracker_whose_package_is_missing_is_named(folder, monkeypatch, tracker):
    before = contents(folder)
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", list)
    assert_refused(call(*NEW, f"tracking.tracker={tracker}"), (f"tracking.tracker={tracker}", f"pip install {tracker}"))
    assert contents(folder) == before


def test_a_tracker_that_cannot_start_is_named(folder, monkeypatch):
    def refuse(*args, **options):
        raise RuntimeError("no API key configured")

    before = contents(folder)
    monkeypatch.setattr(accelerate.Accelerator, "init_trackers", refuse)
    options = ("tracking.tracker=wandb", "tracking.wandb_mode=online")
    assert_refused(call(*NEW, *options), ("tracking.tracker=wandb", "no API key", "wandb_mode=offline"))
    assert contents(folder) == before


def test_a_hub_out_of_reach_is_named(folder, monkeypatch):
    before = contents(folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # without it the hub is tried for a minute
    assert_refused(call(*NEW, "model.name=nobody/nothing"), ("model.name=nobody/nothing", "hub is in reach"))
    assert_refused(call(*NEW, "--data", "nobody/nothing"), ("nobody/nothing", "Hugging Face datasets", "give a folder"))
    assert contents(folder) == before


def test_a_refused_folder_can_be_named_again(folder):
    assert call(*NEW, "model.name=./none").code == 2
    (folder / "new").mkdir(exist_ok=True)  # an empty folder is as good as none
    result = call(*NEW, "baselines=[]", "method=no_facts")
    assert (result.code, result.said) == (0, [])


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("train", "--problem", "cluttr"), ("'cluttr'", "did you mean 'clutrr'")),
        ((*NEW, "inner.step=6"), ("'inner.step'", "did you mean 'inner.steps'")),
        ((*EVALUATE, "--data", "none.csv"), ("none.csv", "not found")),
        ((*ASK[:3], "--facts", "none", *QUESTION), ("--facts none", "one fact a line")),
    ],
)
def test_a_process_of_its_own_ends_with_the_sentence_and_no_traceback(folder, command, says):
    before = contents(folder)
    assert_refused(ended(start(*command)), says)
    assert contents(folder) == before
