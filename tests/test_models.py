"""Loading decoders: made ready for second derivatives, refused in one sentence, and their layers named."""

import logging

import huggingface_hub.constants
import pytest
import torch
from tiny_models import LONGROPE, tiny_phi3
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from reckoning_betty.config import ModelConfig
from reckoning_betty.data.collate import Prompts, TaskEncoder
from reckoning_betty.data.task import Task
from reckoning_betty.errors import UserError
from reckoning_betty.models.causal_lm import (
    layer_names,
    load_model,
    load_pretrained,
    make_twice_differentiable,
    max_tokens,
    small_gpt2,
)
from reckoning_betty.models.word_tokenizer import word_tokenizer, words

VOCABULARY = words("Ann's mother-in-law is Bob . Who ?")
TOKENS = torch.tensor([[3, 4, 5, 6, 7, 8]])
SHARED_SIZES = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}


def gpt2(**options):
    return GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=32, n_embd=8, n_layer=2, n_head=2, **options))


def llama(**options):
    return LlamaForCausalLM(LlamaConfig(**SHARED_SIZES, intermediate_size=16, **options))


def opt(**options):
    config = OPTConfig(**SHARED_SIZES, ffn_dim=16, word_embed_proj_dim=8, max_position_embeddings=32, **options)
    return OPTForCausalLM(config)


def neox(**options):
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SHARED_SIZES, intermediate_size=16, **options))


def save(folder, model=None):
    """A checkpoint folder; GPT-2 saves dropout of 0.1, which is what shows whether it is active."""
    word_tokenizer(VOCABULARY).save_pretrained(folder)
    (model or gpt2()).save_pretrained(folder)
    return str(folder)


def one_sentence(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


# layer names


OUTSIDE = {
    "gpt2": (
        gpt2,
        {"transformer.wte.weight", "transformer.wpe.weight"},
        {"transformer.ln_f.weight", "transformer.ln_f.bias"},
    ),
    "llama": (llama, {"model.embed_tokens.weight"}, {"model.norm.weight"}),
    "opt": (
        opt,
        {"model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight"},
        {"model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"},
    ),
    "neox": (
        neox,
        {"gpt_neox.embed_in.weight"},
        {"gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias"},
    ),
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", OUTSIDE)
def test_layers_are_named(family, tied):
    make, embeddings, head = OUTSIDE[family]
    model = make(tie_word_embeddings=tied)
    names = layer_names(model)
    assert list(names) == [name for name, _ in model.named_parameters()]
    by_layer = {layer: {name for name in names if names[name] == layer} for layer in names.values()}
    output = next(name for name, module in model.named_modules() if module is model.get_output_embeddings())
    assert by_layer.keys() == {"embeddings", "layer 0", "layer 1", "head"}
    assert by_layer["embeddings"] == embeddings
    assert by_layer["head"] == head | (set() if tied else {f"{output}.weight"})
    for layer in ("layer 0", "layer 1"):
        assert all(f".{layer.removeprefix('layer ')}." in name for name in by_layer[layer])
    blocks = {
        layer: {name.split(f".{layer[-1]}.", 1)[1] for name in by_layer[layer]} for layer in ("layer 0", "layer 1")
    }
    assert blocks["layer 0"] == blocks["layer 1"]


def test_layers_of_a_real_model(shared):
    model, tokenizer = load_model(ModelConfig(name=str(shared / "models" / "TinyStories-656K")), [], 0)
    assert set(layer_names(model).values()) == {"embeddings", "layer 0", "layer 1", "head"}
    assert layer_names(model)["model.embed_tokens.weight"] == "embeddings"
    assert max_tokens(model) == 512
    story = "Once upon a time, there was a little girl named Lily. She loved to play with her toys."
    tokens = tokenizer(story, return_tensors="pt").input_ids
    with torch.no_grad():
        assert (
            model(tokens, labels=tokens).loss < 5
        )  # a guess would be ln 2048 = 7.6; tokens are phrases, so it is hard


# what is switched off


@pytest.mark.parametrize("make", [gpt2, llama, opt, neox])
def test_a_model_saved_with_fused_attention_loads_eager(make, tmp_path):
    model = make(bos_token_id=1, eos_token_id=1, pad_token_id=0)
    model.set_attn_implementation("sdpa")
    model, _ = load_model(ModelConfig(name=save(tmp_path, model)), [], 0)
    assert model.config._attn_implementation == "eager"


def test_fused_attention_is_switched_to_eager_with_a_message(caplog):
    model = gpt2(attn_implementation="sdpa")
    with caplog.at_level(logging.WARNING):
        make_twice_differentiable(model)
    assert model.config._attn_implementation == "eager"
    assert "from sdpa to eager" in caplog.text


@pytest.mark.parametrize("make", [gpt2, llama])
def test_gradient_checkpointing_is_switched_off_with_a_message(make, caplog):
    model = make(attn_implementation="eager")
    model.activation_checkpointing_enable()
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    with caplog.at_level(logging.WARNING):
        make_twice_differentiable(model)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    assert "gradient checkpointing switched off" in caplog.text


def test_nothing_is_said_of_a_model_that_is_ready(caplog):
    with caplog.at_level(logging.WARNING):
        make_twice_differentiable(gpt2(attn_implementation="eager"))
    assert caplog.text == ""


def test_a_compiled_model_is_refused():
    with pytest.raises(UserError, match=r"without torch\.compile") as error:
        make_twice_differentiable(torch.compile(gpt2(), backend="eager"))
    one_sentence(error)


def test_an_encoder_is_refused():
    model = BertLMHeadModel(BertConfig(**SHARED_SIZES, intermediate_size=16, is_decoder=False))
    with pytest.raises(UserError, match="not causal") as error:
        make_twice_differentiable(model)
    one_sentence(error)


def test_dropout_is_off(tmp_path):
    model, _ = load_model(ModelConfig(name=save(tmp_path)), [], 0)
    assert any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(TOKENS).logits, model(TOKENS).logits)
        model.train()
        assert not torch.equal(model(TOKENS).logits, model(TOKENS).logits)


def test_dropout_of_the_small_gpt2_is_off():
    model, _ = load_model(ModelConfig(layers=1, width=8, heads=2), VOCABULARY, 0)
    assert not any(module.training for module in model.modules())


def test_a_bfloat16_model_loads_in_float32(tmp_path):
    model = gpt2().to(torch.bfloat16)
    folder = save(tmp_path, model)
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16
    loaded, _ = load_pretrained(folder)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.transformer.wte.weight, model.transformer.wte.weight.float())


# what cannot be loaded


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "runs/clutrr/checkpoint"])
def test_a_missing_folder_is_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such folder") as error:
        load_pretrained(name)
    assert name in one_sentence(error)


@pytest.mark.parametrize("make", [gpt2, llama, opt, neox])
def test_a_folder_without_tokenizer_is_one_sentence(make, tmp_path):
    make().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="tokenizer") as error:
        load_pretrained(str(tmp_path))
    assert str(tmp_path) in one_sentence(error)


def test_a_folder_without_model_is_one_sentence(tmp_path):
    word_tokenizer(VOCABULARY).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot be loaded") as error:
        load_pretrained(str(tmp_path))
    one_sentence(error)


def test_an_empty_folder_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be loaded") as error:
        load_pretrained(str(tmp_path))
    one_sentence(error)


def test_damaged_weights_are_one_sentence(tmp_path):
    folder = save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be loaded") as error:
        load_pretrained(folder)
    one_sentence(error)


@pytest.mark.parametrize("name", ["no-such-org/no-such-model", "no-such-model"])
def test_a_hub_name_out_of_reach_is_one_sentence(name, monkeypatch):
    # what HF_HUB_OFFLINE=1 sets when it is imported: no test goes to the network
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="while the hub is in reach") as error:
        load_pretrained(name)
    assert name in one_sentence(error)


def test_a_tokenizer_of_another_kind_than_its_model_is_refused(tmp_path):
    # transformers reads it as Qwen2's, which finds no token for any of the words
    model = Qwen2ForCausalLM(Qwen2Config(**SHARED_SIZES, num_key_value_heads=1, intermediate_size=16))
    _, tokenizer = load_pretrained(save(tmp_path, model))
    task = Task(facts=("Ann is Bob", "Bob is Ann"), questions=())
    with pytest.raises(UserError, match="a tokenizer of its own kind beside the model") as error:
        TaskEncoder(tokenizer, Prompts()).knowledge([task])
    one_sentence(error)


def test_a_tokenizer_without_end_is_refused(tmp_path):
    folder = save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match="no end-of-sequence token") as error:
        load_pretrained(folder)
    one_sentence(error)


def test_a_model_that_reads_pictures_too_is_refused(tmp_path):
    vision = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 8}
    text = SHARED_SIZES | {"intermediate_size": 16, "num_key_value_heads": 1, "head_dim": 6, "pad_token_id": 0}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    folder = save(tmp_path, Gemma3ForConditionalGeneration(config))
    with pytest.raises(UserError, match="reads more than text") as error:
        load_pretrained(folder)
    assert folder in one_sentence(error)


@torch.no_grad()
def test_longrope_limits_rows_to_those_whose_padding_is_exact():
    model = make_twice_differentiable(tiny_phi3(16, **LONGROPE))
    limit = max_tokens(model)
    assert limit == 32 < model.config.max_position_embeddings
    short = model(TOKENS).logits
    padded, too_long = (model(torch.nn.functional.pad(TOKENS, (0, n - 6))).logits[:, :6] for n in (limit, limit + 1))
    torch.testing.assert_close(padded, short)
    assert not torch.allclose(too_long, short, atol=1e-3)


# the small GPT-2


def test_the_seed_determines_the_small_gpt2():
    config, tokenizer = ModelConfig(layers=2, width=8, heads=2, context=32), word_tokenizer(VOCABULARY)
    first, again, other = (small_gpt2(config, tokenizer, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["transformer.wte.weight"], other["transformer.wte.weight"])


def test_the_small_gpt2_has_the_shape_asked_for():
    model, tokenizer = load_model(ModelConfig(layers=3, width=12, heads=2, context=40), VOCABULARY, 0)
    assert max_tokens(model) == 40
    assert model.transformer.wte.weight.shape == (len(tokenizer), 12)
    assert {"layer 0", "layer 1", "layer 2"} < set(layer_names(model).values())
    assert model.config._attn_implementation == "eager"
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


# the word tokenizer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bob is Ann's mother-in-law.", ["Bob", "is", "Ann", "'s", "mother-in-law", "."]),
        ("Who is Bob?", ["Who", "is", "Bob", "?"]),
        ("  is \n is ", ["is", "is"]),
        ("", []),
    ],
)
def test_words_and_tokens_are_the_same(text, expected):
    tokenizer = word_tokenizer(VOCABULARY)
    assert words(text) == expected
    ids = tokenizer(text).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == expected
    assert words(tokenizer.decode(ids)) == expected


def test_special_tokens_come_first_and_words_in_order():
    tokenizer = word_tokenizer(["b", "a", "b"])
    assert tokenizer.get_vocab() == {"<pad>": 0, "<end>": 1, "<unknown>": 2, "b": 3, "a": 4}
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)


def test_other_words_are_unknown():
    tokenizer = word_tokenizer(["is"])
    assert tokenizer("Zoe is mother-in-law").input_ids == [2, 3, 2]


def test_a_saved_tokenizer_reads_the_same(tmp_path):
    tokenizer = word_tokenizer(VOCABULARY)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "Who is Ann's mother-in-law? Zoe is."
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id) == (0, 1, 2)
    assert loaded.decode(loaded(text).input_ids) == tokenizer.decode(tokenizer(text).input_ids)


def test_the_smallest_vocabulary_makes_a_model():
    model, tokenizer = load_model(ModelConfig(layers=1, width=8, heads=2), ["yes"], 0)
    assert model.config.vocab_size == len(tokenizer) == 4
