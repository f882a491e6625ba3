"""Adapters: their hypergradient against the plain loop, the frozen model beside them, and their files."""

import functools
import json
from dataclasses import replace

import peft
import pytest
import torch
from reference import FACTS, VOCABULARY, all_names, assert_equal, hypergradient_of, plain_loop, plan_of, some_rates
from tiny_models import FAMILIES, tiny_gpt2, tiny_llama
from transformers import AutoModelForCausalLM

from reckoning_betty.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from reckoning_betty.data.collate import Prompts
from reckoning_betty.errors import UserError
from reckoning_betty.inner.fast_weights import plan_fast_weights
from reckoning_betty.inner.rates import InnerRates
from reckoning_betty.models.adapters import add_adapters, has_adapters, load_adapters
from reckoning_betty.models.causal_lm import adapted_names, layer_names

IDS = torch.tensor([FACTS[0][0]])


def with_adapters(make, vocabulary=VOCABULARY, rank=2, start=False, **options):
    """A model with adapters, whose B are not 0, unless they are to be as at the ``start``."""
    model = make(vocabulary, **options)
    add_adapters(model, rank=rank, alpha=3.0, targets=["all-linear"])
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name and not start:
                parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model


@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "checkpoint"])
@pytest.mark.parametrize("form", ["dual", "batched", "mixed", "looped"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "gpt_neox"])
def test_hypergradient_equals_the_plain_loop(family, form, checkpoint, float64_throughout):
    model = with_adapters(FAMILIES[family])
    names = all_names(model)
    assert names
    assert all(".lora_" in name for name in names)
    rates = some_rates(names)
    found = hypergradient_of(model, plan_of(form, model, names, checkpoint=checkpoint), rates)
    assert list(found.parameters) == names
    assert_equal(found, plain_loop_of(FAMILIES[family]), 1e-10)


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family not in ("gpt2", "llama", "opt", "gpt_neox")]
)
def test_hypergradient_in_every_other_family(family, float64_throughout):
    model = with_adapters(FAMILIES[family])
    names = all_names(model)
    plan = plan_fast_weights(model, names, "lora", len(FACTS), num_tokens=18, num_steps=3)
    assert_equal(hypergradient_of(model, plan, some_rates(names)), plain_loop_of(FAMILIES[family]), 1e-10)


@functools.cache
def plain_loop_of(make, start=False):
    """The hypergradient of the adapters."""
    model = with_adapters(make, start=start)
    names = all_names(model)
    expected = plain_loop(model, names, some_rates(names))
    return replace(expected, parameters={name: expected.parameters[name] for name in names})


@pytest.mark.parametrize("form", ["lora", "auto"])
def test_the_form_that_is_chosen(form, float64):
    model = with_adapters(tiny_gpt2, start=True)
    names = all_names(model)
    plan = plan_fast_weights(model, names, form, len(FACTS), num_tokens=18, num_steps=3)
    assert plan.form == "mixed"
    assert_equal(hypergradient_of(model, plan, some_rates(names)), plain_loop_of(tiny_gpt2, start=True), 1e-10)


@pytest.mark.parametrize("form", ["dual", "batched", "looped"])
def test_the_base_is_frozen(form):
    model = with_adapters(tiny_llama)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = all_names(model)
    hypergradient_of(model, plan_of(form, model, names), some_rates(names))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (".lora_" in name)
        assert parameter.grad is None
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_adapters_change_nothing_at_their_start(make):
    torch.testing.assert_close(
        with_adapters(make, start=True)(input_ids=IDS).logits, make(VOCABULARY)(input_ids=IDS).logits, rtol=0, atol=0
    )


@pytest.fixture(params=[tiny_gpt2, tiny_llama], ids=["gpt2", "llama"])
def saved(request, tokenizer, tmp_path):
    """A checkpoint of a model with adapters, what it holds, and the model without them."""
    model = with_adapters(request.param, len(tokenizer))
    layers = layer_names(model)
    rates = InnerRates({name: layers[name] for name in adapted_names(model)}, 3, 0.1)
    torch.manual_seed(8)
    with torch.no_grad():
        rates.log_rates.add_(torch.randn_like(rates.log_rates))
    checkpoint = Checkpoint(
        model=model, tokenizer=tokenizer, method="reckoning", problem="test", prompts=Prompts(), rates=rates
    )
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, checkpoint)
    return folder, checkpoint, request.param(len(tokenizer))


def test_a_checkpoint_comes_back_as_it_was(saved):
    folder, checkpoint, _ = saved
    loaded = load_checkpoint(folder)
    assert has_adapters(loaded.model)
    expected = checkpoint.model(input_ids=IDS).logits
    torch.testing.assert_close(loaded.model(input_ids=IDS).logits, expected, rtol=0, atol=0)
    assert torch.equal(loaded.rates.log_rates, checkpoint.rates.log_rates)
    assert loaded.rates.names == checkpoint.rates.names
    assert adapted_names(loaded.model) == adapted_names(checkpoint.model)
    trained = {name for name, parameter in loaded.model.named_parameters() if parameter.requires_grad}
    assert trained == set(checkpoint.rates.names)


def test_saving_what_was_loaded_gives_the_same_again(saved, tmp_path):
    folder, checkpoint, _ = saved
    save_checkpoint(tmp_path / "again", load_checkpoint(folder))
    again = load_checkpoint(tmp_path / "again")
    expected = checkpoint.model(input_ids=IDS).logits
    torch.testing.assert_close(again.model(input_ids=IDS).logits, expected, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT's own use of it
def test_other_programs_load_the_base_and_the_adapters(saved):
    folder, checkpoint, bare = saved
    base = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    assert list(base.state_dict()) == list(bare.state_dict())
    torch.testing.assert_close(base(input_ids=IDS).logits, bare(input_ids=IDS).logits, rtol=0, atol=0)
    adapted = peft.PeftModel.from_pretrained(base, folder / "adapter").eval()
    expected = checkpoint.model(input_ids=IDS).logits
    assert not torch.allclose(expected, bare(input_ids=IDS).logits, atol=1e-3)
    torch.testing.assert_close(adapted(input_ids=IDS).logits, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_rank_stabilised_adapters_are_scaled_by_the_root_of_the_rank(make):
    """alpha / sqrt(4) = alpha / 2: what rank 4 gives so, rank 4 gives otherwise with twice the alpha."""

    def logits(alpha, stabilised):
        model = make(VOCABULARY)
        add_adapters(model, 4, alpha, ["all-linear"], rank_stabilised=stabilised)
        torch.manual_seed(7)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_" in name:
                    parameter.copy_(torch.randn_like(parameter) * 0.4)
        return model(input_ids=IDS).logits

    torch.testing.assert_close(logits(3.0, True), logits(6.0, False), rtol=0, atol=0)
    assert not torch.allclose(logits(3.0, True), logits(3.0, False), atol=1e-3)


@pytest.mark.parametrize(("make", "head"), [(tiny_gpt2, "transformer.h"), (tiny_llama, "model.layers")])
def test_only_the_top_layers_have_adapters(make, head):
    model = make(VOCABULARY)
    add_adapters(model, 2, 4.0, ["all-linear"], top_layers=1)
    names = all_names(model)
    assert names
    assert all(name.startswith(f"{head}.1.") for name in names)
    everywhere = with_adapters(make)
    assert {name for name in all_names(everywhere) if name.startswith(f"{head}.1.")} == set(names)


def test_more_top_layers_than_there_are_are_refused():
    with pytest.raises(UserError, match=r"inner\.top_layers=3 is not possible: the model has 2 layers"):
        add_adapters(tiny_gpt2(VOCABULARY), 2, 4.0, ["all-linear"], top_layers=3)


@pytest.mark.parametrize("targets", [["nothing_like_it"], ["all-linear", "c_attn_"], ["wte.weight"]])
def test_targets_that_fit_no_layer_are_refused(targets):
    with pytest.raises(UserError, match=r"inner\.lora_targets=.*fits no layer"):
        add_adapters(tiny_gpt2(VOCABULARY), 2, 4.0, targets)


def test_a_target_that_cannot_be_adapted_is_refused():
    with pytest.raises(UserError, match=r"inner\.lora_targets="):
        add_adapters(tiny_gpt2(VOCABULARY), 2, 4.0, ["ln_1"])


@pytest.mark.parametrize("damage", ["no config", "config cut", "no weights", "weights cut", "other shape"])
def test_damaged_adapters_are_refused(damage, saved):
    folder, _, bare = saved
    config = folder / "adapter" / "adapter_config.json"
    weights = folder / "adapter" / "adapter_model.safetensors"
    if damage.startswith("no "):
        (config if damage == "no config" else weights).unlink()
    elif damage.endswith(" cut"):
        file = config if damage == "config cut" else weights
        file.write_bytes(file.read_bytes()[:40])
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"r": 5}))
    with pytest.raises(UserError, match="take another checkpoint, or train again"):
        load_adapters(bare, folder / "adapter")


def test_adapters_of_another_model_are_refused(saved, tokenizer):
    folder, checkpoint, _ = saved
    other = tiny_llama if "gpt2" in type(checkpoint.model).__name__.lower() else tiny_gpt2
    with pytest.raises(UserError):
        load_adapters(other(len(tokenizer)), folder / "adapter")
