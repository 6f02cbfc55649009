"""Positions and tokens that a model has room for: .venv/bin/pytest tests/modeling/test_limits.py"""

import pyarrow as pa
import pytest
import torch

from s2l_ray.errors import InputError
from s2l_ray.modeling.batching import ExampleTable
from s2l_ray.modeling.limits import check_attention, check_ids, check_learned, check_positions, settings_of
from s2l_ray.modeling.models import finish_folder, load_model, save_weights
from s2l_ray.recipe.lora import LoraConfig
from s2l_ray.recipe.model import ModelConfig
from tests.modeling.architectures import ALL, config_of, enlarged
from tests.modeling.test_lora import adapted

LEARNED = {"gpt2"}
"""Families with a table of positions, which ends."""


@pytest.mark.parametrize("kind", ALL)
def test_longer_examples_than_a_model_has_positions_for_are_refused_or_said(kind):
    settings = config_of(kind)
    assert check_positions("proxy.model x", settings, 512) is None
    if kind in LEARNED:
        with pytest.raises(InputError, match=r"data.max_length=513 is more than the 512 positions that proxy.model x has"):
            check_positions("proxy.model x", settings, 513)
    else:
        assert "proxy.model x was made for 512 tokens" in check_positions("proxy.model x", settings, 513)


def test_settings_of_an_adapter_are_its_base_s(tmp_path):
    save_weights(enlarged("gpt2"), tmp_path / "base")
    base = ModelConfig(path=str(tmp_path / "base"))
    save_weights(adapted(base, LoraConfig().model_dump()), tmp_path / "adapter")
    finish_folder(tmp_path / "adapter", base)
    for path in ("base", "adapter"):
        settings = settings_of(ModelConfig(path=str(tmp_path / path)), 1)
        assert (settings.vocab_size, settings.max_position_embeddings) == (128, 512)


def test_a_fresh_model_has_what_its_config_says():
    fresh = ModelConfig(config={"model_type": "gpt2", "n_positions": 64, "n_embd": 8, "n_head": 1}, tokenizer="unused")
    assert (settings_of(fresh, 300).max_position_embeddings, settings_of(fresh, 300).vocab_size) == (64, 300)


def test_a_token_without_a_vector_is_refused_by_name(new_tokenizer):
    tokenizer = new_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|think|>"]})
    number = tokenizer.convert_tokens_to_ids("<|think|>")
    ids = pa.chunked_array([pa.array([[1, 2], [3]], pa.list_(pa.int32())), pa.array([[number, 1]], pa.list_(pa.int32()))])
    masks = pa.chunked_array([pa.array([[True, True], [True]]), pa.array([[True, True]])])
    examples = pa.table({"input_ids": ids, "supervised": masks})
    check_ids(ExampleTable(examples).largest_id, number + 1, tokenizer)
    check_ids(ExampleTable(examples.slice(0, 2)).largest_id, number, tokenizer)
    with pytest.raises(InputError, match=rf"token '<\|think\|>', number {number}, .* vectors for {number} tokens: resize"):
        check_ids(ExampleTable(examples).largest_id, number, tokenizer)
    check_ids(ExampleTable(examples.slice(0, 0)).largest_id, 1, tokenizer)


def test_added_tokens_that_the_base_has_not_learned_are_refused_where_they_stay_as_they_are(new_tokenizer):
    tokenizer = new_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>", "<|end|>", "<|tool|>", "<|known|>"]})
    start, end, tool, known = (tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("start", "end", "tool", "known"))
    vectors = torch.randn(len(tokenizer), 8, generator=torch.Generator().manual_seed(0))
    learned = torch.nn.Embedding.from_pretrained(vectors.clone())
    vectors[start] = 0
    vectors[end] = vectors[tool]  # as a fresh row that was copied, or set to the mean of all
    layers = [torch.nn.Embedding.from_pretrained(vectors)] * 2
    check_learned(layers, {1, 2, known}, tokenizer)
    for used, named in (({1, start, known}, r"<\|start\|>"), ({end}, r"<\|end\|>"), ({start, end}, r"<\|start\|>, <\|end\|>")):
        with pytest.raises(InputError, match=rf"the examples hold {named}, whose vectors the model has not learned"):
            check_learned(layers, used, tokenizer)
    check_learned([layers[0], learned], {start, end}, tokenizer)  # the padding's vector is zero, and its head's row is learned
    check_learned([torch.nn.Embedding(0, 8)] * 2, {start}, tokenizer)  # under ZeRO-3 a worker has no row of it at hand


def test_every_id_of_a_table_is_found():
    ids = pa.chunked_array([pa.array([[9], [1, 2], [3]], pa.list_(pa.int32())), pa.array([[7, 1]], pa.list_(pa.int32()))])
    masks = pa.chunked_array([pa.array([[True], [True, True], [True]]), pa.array([[True, True]])])
    assert ExampleTable(pa.table({"input_ids": ids, "supervised": masks}).slice(1)).distinct_ids == {1, 2, 3, 7}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_model_is_loaded_with_the_attention_that_is_asked_for(attention, tmp_path):
    fields = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
              "num_attention_heads": 2, "vocab_size": 64}
    asked = ModelConfig(config=fields, tokenizer="none", attn_implementation=attention)
    check_attention("target.model", asked, 64)
    fresh = load_model(asked, vocab_size=64, seed=0)
    fresh.save_pretrained(tmp_path)
    saved = load_model(ModelConfig(path=str(tmp_path), attn_implementation=attention), vocab_size=64, seed=0)
    assert fresh.config._attn_implementation == saved.config._attn_implementation == attention


def test_an_attention_that_is_not_there_is_refused_before_any_weight_is_loaded():
    fields = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
              "num_attention_heads": 2, "vocab_size": 64}
    asked = ModelConfig(config=fields, tokenizer="none", attn_implementation="flash_attention_2")
    with pytest.raises(InputError, match=r"target\.model\.attn_implementation=flash_attention_2: .*[Ff]lash.*Set it to auto"):
        check_attention("target.model", asked, 64)
