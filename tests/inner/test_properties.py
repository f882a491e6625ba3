"""Whatever the sizes, the hypergradient is that of the plain loop."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import assert_equal, hypergradient_of, plain_loop, plan_of, some_rates
from tiny_models import tiny_gpt2

from reckoning_betty.models.causal_lm import adapted_names

SIZES = {"deadline": None, "derandomize": True, "database": None}


@st.composite
def batches(draw):
    """Vocabulary, and token ids of facts and questions of a few tasks."""
    vocabulary = draw(st.integers(4, 12))

    def rows(low):
        return st.lists(st.integers(0, vocabulary - 1), min_size=low, max_size=5)

    tasks = draw(st.integers(1, 3))
    facts = [draw(st.lists(rows(1), min_size=1, max_size=3)) for _ in range(tasks)]
    facts[0][0] = draw(rows(2))  # a batch of facts of one token each has nothing to predict
    questions = [draw(st.lists(rows(3), min_size=1, max_size=2)) for _ in range(tasks)]
    return vocabulary, facts, questions


@st.composite
def truncations(draw):
    """Number of steps, and how many of the last are differentiated."""
    num_steps = draw(st.integers(1, 4))
    return num_steps, draw(st.integers(0, num_steps))


@settings(max_examples=25, **SIZES)
@given(
    batch=batches(),
    steps=truncations(),
    heads=st.integers(1, 2),
    head_width=st.integers(1, 4),
    form=st.sampled_from(["dual", "batched", "mixed"]),
    checkpoint=st.booleans(),
    tied=st.booleans(),
    pad=st.integers(0, 3),
)
def test_hypergradient_equals_the_plain_loop(batch, steps, heads, head_width, form, checkpoint, tied, pad):
    vocabulary, facts, questions = batch
    num_steps, differentiated = steps
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # not the fixture, which hypothesis would share between examples
    try:
        shape = {"n_head": heads, "n_embd": heads * head_width, "n_inner": 5, "tie_word_embeddings": tied}
        model = tiny_gpt2(vocabulary, **shape)
        names = adapted_names(model)
        rates = some_rates(names, num_steps, 0.01, 0.1)
        plan = plan_of(form, model, names, checkpoint=checkpoint)
        found = hypergradient_of(model, plan, rates, facts, questions, pad, differentiated)
        assert_equal(found, plain_loop(model, names, rates, facts, questions, differentiated), 1e-9)
    finally:
        torch.set_default_dtype(default)
