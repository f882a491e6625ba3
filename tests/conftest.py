import warnings
from pathlib import Path

import pytest
import torch

# torch warns at import about some systems' NumPy builds and Betty's third-party imports about their own successors;
# importing them here, once, keeps "warnings are errors" for our own code.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import betty.problems
    import torch._decomp.decompositions_for_jvp  # torch does at its first jvp, and warns of its own torch.jit.script

from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.task import Question, Task
from reckoning_betty.models.word_tokenizer import word_tokenizer

torch.set_num_threads(1)  # tiny models gain nothing from more, and on a busy machine threads wait for each other
SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def pytest_collection_modifyitems(items):
    """Skip what is marked ``gpu`` where there is none; the summary counts it."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU here"))


@pytest.fixture(scope="session")
def shared():
    """The folder of real data and weights beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: {SHARED} is not there")
    return SHARED


@pytest.fixture
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def tokenizer():
    return word_tokenizer([*"abcdefg", "is", "of", *"x?yz"])


@pytest.fixture
def encoder(tokenizer):
    return TaskEncoder(tokenizer, Prompts())


@pytest.fixture(scope="session")
def ragged_tasks():
    """Two tasks that differ in the number and length of facts, questions and answers; one fact is a distractor."""
    return [
        Task(
            facts=("a is b", "c is d of e"),
            questions=(Question(text="x a ?", answer="y", hops=1, relevant=(0,)),),
        ),
        Task(
            facts=("g is f of e a", "b c", "d e a"),
            questions=(
                Question(text="x ?", answer="z", hops=1, relevant=(0,)),
                Question(text="x b c ?", answer="y z", hops=1, relevant=(1,)),
            ),
        ),
    ]


assert betty.problems  # imported for its warnings alone
