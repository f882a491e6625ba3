"""The inner loss summed over facts instead of averaged, against the plain loop, and what training saves of it."""

import pytest
import reference
import torch
from tiny_models import tiny_gpt2

from reckoning_betty.answering import answerer_of
from reckoning_betty.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from reckoning_betty.config import ModelConfig
from reckoning_betty.data.collate import Prompts
from reckoning_betty.data.task import Question, Task
from reckoning_betty.errors import UserError
from reckoning_betty.inner.encode import encoding_loss, encoding_losses
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.causal_lm import layer_names, load_model

WORDS = [*"abcdefg", "is", "of", *"x?yz"]


@pytest.mark.parametrize("facts_per_pass", [0, 2])
@pytest.mark.parametrize("form", ["dual", "batched", "mixed", "looped", "swept"])
def test_hypergradient_equals_the_plain_loop(form, facts_per_pass, float64_throughout):
    def model():
        return tiny_gpt2(reference.VOCABULARY)

    names = reference.all_names(model())
    rates = reference.some_rates(names, low=0.02, high=0.1)
    plan = reference.plan_of(form, model(), names)
    found = reference.hypergradient_of(model(), plan, rates, facts_per_pass=facts_per_pass, reduction="sum")
    reference.assert_equal(found, reference.plain_loop(model(), names, rates, reduction="sum"), 1e-10)


def test_the_sum_is_the_mean_times_the_number_of_facts(float64):
    model, facts = tiny_gpt2(reference.VOCABULARY), reference.padded(reference.FACTS)
    fast = reference.plan_of("dual", model, reference.all_names(model)).start(model, len(reference.FACTS))
    counts = torch.tensor([float(len(task)) for task in reference.FACTS])
    assert len(set(counts.tolist())) > 1
    expected = counts * encoding_loss(fast, facts)
    for size in (0, 1, 2):
        summed = sum(part(fast) for part in encoding_losses(facts, size, "sum"))
        torch.testing.assert_close(summed, expected, rtol=1e-13, atol=0)


def test_a_checkpoint_answers_as_it_was_trained(tmp_path):
    model, tokenizer = load_model(ModelConfig(width=8, heads=2, context=16), WORDS, seed=0)
    task = Task(facts=("a is b", "c is d"), questions=(Question(text="x a ?", answer="y", hops=1, relevant=(0,)),))
    losses = {}
    for reduction in ("mean", "sum"):
        given = Checkpoint(
            model=model,
            tokenizer=tokenizer,
            method="reckoning",
            problem="test",
            prompts=Prompts(),
            rates=InnerRates(layer_names(model), 1, 0.1),
            reduction=reduction,
        )
        save_checkpoint(tmp_path / reduction, given)
        loaded = load_checkpoint(tmp_path / reduction)
        assert loaded.reduction == reduction
        losses[reduction] = answerer_of(loaded, torch.device("cpu")).answer([task]).inner_losses[:, 0]
    torch.testing.assert_close(losses["sum"][0], 2 * losses["mean"][0])
    assert losses["sum"][1] < 0.99 * 2 * losses["mean"][1]  # a step of twice the gradient
    note = tmp_path / "sum" / "reckoning.json"
    note.write_text(note.read_text().replace('"sum"', '"median"'))
    with pytest.raises(UserError, match="reduction is 'median'"):
        load_checkpoint(tmp_path / "sum")
