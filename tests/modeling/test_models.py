"""Models and tokenizers from folders and configs, and their names: .venv/bin/pytest tests/modeling/test_models.py"""

import json
import shutil
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, PreTrainedTokenizerFast

from s2l_ray.errors import InputError
from s2l_ray.modeling.identity import model_identity, tokenizer_identity
from s2l_ray.modeling.models import (
    load_model,
    load_tokenizer,
    pad_token_id,
    parameter_count,
    save_weights,
)
from s2l_ray.recipe.model import ModelConfig

TINY = {"model_type": "gpt_neox", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 32}


def new_model(seed=0, **changes):
    torch.manual_seed(seed)
    config = GPTNeoXConfig(**{**TINY, "vocab_size": 360, **changes})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@pytest.fixture
def folder(tmp_path, tokenizer):
    """Return a folder with a tiny model and its tokenizer."""
    path = tmp_path / "model"
    save_weights(new_model(), path)
    tokenizer.save_pretrained(path)
    return path


def fresh(seed=0, vocab_size=360, **changes):
    config = ModelConfig(config={**TINY, **changes}, tokenizer="unused")
    return load_model(config, vocab_size=vocab_size, seed=seed)


def same_weights(first, second):
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(v, w) for (a, v), (b, w) in pairs)


def test_a_saved_folder_loads_in_fp32_and_is_not_resized(folder):
    model = load_model(ModelConfig(path=str(folder)), vocab_size=10_000, seed=0)
    assert same_weights(model, new_model())
    assert model.config.vocab_size == 360
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    save_weights(model.to(torch.bfloat16), folder)
    model = load_model(ModelConfig(path=str(folder)), vocab_size=0, seed=0)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_a_home_folder_may_be_written_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    config, absolute = ModelConfig(path="~/model"), ModelConfig(path=str(folder))
    assert same_weights(load_model(config, vocab_size=0, seed=0), new_model())
    assert len(load_tokenizer(config)) == 360
    assert model_identity(config) == model_identity(absolute)


def test_fresh_weights_follow_from_the_seed_alone():
    first, again, other = fresh(seed=1), fresh(seed=1), fresh(seed=2)
    assert same_weights(first, again)
    assert not same_weights(first, other)
    assert {weight.dtype for weight in first.parameters()} == {torch.float32}


def test_a_fresh_model_has_the_tokenizer_s_vocabulary_or_a_larger_one():
    assert fresh(vocab_size=360).get_input_embeddings().weight.shape[0] == 360
    config = ModelConfig(config={**TINY, "vocab_size": 512}, tokenizer="unused")
    assert load_model(config, vocab_size=360, seed=0).get_output_embeddings().weight.shape[0] == 512


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 359}, r"config\.vocab_size=359 is below the tokenizer's 360 tokens"),
        ({"vocab_size": "many"}, r"is not a transformers model config: .*vocab_size"),
        ({"model_type": "nonsense"}, r"is not a transformers model config: Unrecognized model identifier: nonsense"),
        ({"hidden_size": "wide"}, r"is not a transformers model config: .*hidden_size"),
        ({"model_type": "t5"}, r"makes no causal language model: Unrecognized configuration class"),
        ({"hidden_size": 10, "num_attention_heads": 3}, r"is not a transformers model config: .*not divisible"),
        ({"model_type": "phi3", "pad_token_id": 1000}, r"makes no causal language model: Padding_idx"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(changes, message):
    config = ModelConfig(config={**TINY, **changes}, tokenizer="unused")
    with pytest.raises(InputError, match=f"(?s){message}"):
        load_model(config, vocab_size=360, seed=0)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    torch.save(new_model().state_dict(), folder / "pytorch_model.bin")
    config = ModelConfig(path=str(folder))
    with pytest.raises(InputError, match=r"model folder '.*' cannot be loaded \(.*model\.safetensors"):
        load_model(config, vocab_size=0, seed=0)
    with pytest.raises(InputError, match=r"has no \.safetensors file: save the model with save_pretrained"):
        model_identity(config)


@pytest.mark.parametrize("size", [0, 100, -100])
def test_a_weights_file_that_was_cut_off_is_refused(folder, size):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(InputError, match=r"model folder '.*' cannot be loaded"):
        load_model(ModelConfig(path=str(folder)), vocab_size=0, seed=0)


@pytest.mark.parametrize("path", ["/no/such/folder", "./no-such-folder", "~/no-such-folder", "no/such/folder"])
def test_a_missing_folder_is_refused_by_name(path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    config = ModelConfig(path=path)
    for load in (lambda c: load_model(c, vocab_size=0, seed=0), load_tokenizer, model_identity, tokenizer_identity):
        with pytest.raises(InputError, match=f"(model|tokenizer) (folder )?'{path}' (does not exist|is neither)"):
            load(config)


@pytest.mark.parametrize("name", ["no-such-org/no-such-model", "no-such-model"])
def test_a_hub_name_without_network_is_refused_quickly(name, monkeypatch):
    started, config = time.monotonic(), ModelConfig(path=name)
    refused = rf"{name}' is neither a folder here nor reachable on the hub \(.+\)"
    # Port 9 of this machine answers nobody, as on a machine that is not told that it has no network.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    for identify in (model_identity, tokenizer_identity):
        with pytest.raises(InputError, match=refused):
            identify(config)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for load in (lambda c: load_model(c, vocab_size=0, seed=0), load_tokenizer, model_identity, tokenizer_identity):
        with pytest.raises(InputError, match=refused):
            load(config)
    assert time.monotonic() - started < 20


def test_the_tokenizer_comes_from_its_own_folder_or_the_model_s(folder, tokenizer_folder, tokenizer):
    for config in (ModelConfig(path=str(folder)), ModelConfig(config=TINY, tokenizer=str(tokenizer_folder))):
        loaded = load_tokenizer(config)
        assert loaded.is_fast
        assert loaded.get_vocab() == tokenizer.get_vocab()
        assert loaded.eos_token == "<|endoftext|>"


def without_eos(tokenizer_folder, path, **names):
    backend = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_folder / "tokenizer.json"), **names)
    backend.save_pretrained(path)
    return str(path)


def test_a_tokenizer_without_end_of_sequence_is_refused_until_the_recipe_names_one(tokenizer_folder, tmp_path):
    path = without_eos(tokenizer_folder, tmp_path)
    with pytest.raises(InputError, match=r"has no end-of-sequence token.*set model\.eos_token to one of its tokens"):
        load_tokenizer(ModelConfig(config=TINY, tokenizer=path))
    tokenizer = load_tokenizer(ModelConfig(config=TINY, tokenizer=path, eos_token="<|im_end|>"))
    assert (tokenizer.eos_token_id, len(tokenizer)) == (3, 360)


def test_the_recipe_s_end_of_sequence_goes_before_the_tokenizer_s(tokenizer_folder):
    tokenizer = load_tokenizer(ModelConfig(config=TINY, tokenizer=str(tokenizer_folder), eos_token="<|im_end|>"))
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 3)


@pytest.mark.parametrize("names", [{}, {"unk_token": "<s>"}])  # with an unknown token, any name would have an id
def test_an_end_of_sequence_that_is_no_token_is_refused(tokenizer_folder, tmp_path, names):
    path = without_eos(tokenizer_folder, tmp_path, **names)
    with pytest.raises(InputError, match=r"model\.eos_token='<\|end\|>' is not one of the tokens of tokenizer '.*'"):
        load_tokenizer(ModelConfig(config=TINY, tokenizer=path, eos_token="<|end|>"))


def test_gpt2_s_bare_tokenizer_needs_and_takes_an_end_of_sequence(gpt2_tokenizer):
    path = str(Path(__file__).parents[3] / "shared" / "models" / "gpt2_tokenizer")
    with pytest.raises(InputError, match="no end-of-sequence token"):
        load_tokenizer(ModelConfig(config=TINY, tokenizer=path))
    tokenizer = load_tokenizer(ModelConfig(config=TINY, tokenizer=path, eos_token="<|endoftext|>"))
    assert (tokenizer.eos_token_id, len(tokenizer)) == (50256, len(gpt2_tokenizer))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0", "model": {"type": "nonsense"}}'])
def test_a_broken_tokenizer_file_is_refused(tokenizer_folder, tmp_path, content):
    broken = tmp_path / "broken"
    shutil.copytree(tokenizer_folder, broken)
    (broken / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"tokenizer folder '.*' cannot be loaded"):
        load_tokenizer(ModelConfig(config=TINY, tokenizer=str(broken)))


def test_padding_falls_back_on_end_of_sequence(new_tokenizer):
    assert pad_token_id(new_tokenizer()) == 0
    assert pad_token_id(new_tokenizer(pad_token="<|im_end|>")) == 3


def test_parameter_count_is_the_model_s(folder, tmp_path):
    # 2 x 360 x 8 embeddings and head; attention 8 x 24 + 24 + 8 x 8 + 8; MLP 8 x 16 + 16 + 16 x 8 + 8;
    # three layer norms of 2 x 8: 5,760 + 288 + 280 + 48 = 6,376.
    assert parameter_count(folder) == new_model().num_parameters() == 6376
    tied = AutoModelForCausalLM.from_config(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=360, n_positions=32))
    save_weights(tied, tmp_path / "tied")
    assert parameter_count(tmp_path / "tied") == tied.num_parameters()
    new_model().save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert parameter_count(tmp_path / "shards") == 6376


def test_saved_weights_are_config_and_safetensors_and_nothing_else(tmp_path):
    save_weights(new_model(), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names - {"generation_config.json"} == {"config.json", "model.safetensors"}


def identities(path, **changes):
    config = ModelConfig(path=str(path), **changes)
    return model_identity(config), tokenizer_identity(config)


def test_identities_follow_the_content_not_the_path(folder, tmp_path):
    model, tokenizer = identities(folder)
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "README.md").write_text("about")
    assert identities(moved) == (model, tokenizer)
    save_weights(new_model(seed=1), moved)
    assert identities(moved)[0] != model
    assert identities(moved)[1] == tokenizer


@pytest.mark.parametrize("changed", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                                     "additional_chat_templates/tools.jinja"])
def test_the_tokenizer_s_identity_follows_each_of_its_files(folder, changed):
    _, before = identities(folder)
    path = folder / changed
    path.parent.mkdir(exist_ok=True)
    path.write_text(path.read_text() + "\n" if path.exists() else "{{ messages }}")
    assert identities(folder)[1] != before


def test_code_that_runs_is_part_of_the_models_identity(folder):
    before, trusting = identities(folder)[0], identities(folder, trust_remote_code=True)[0]
    (folder / "modeling_own.py").write_text("x = 1")
    assert identities(folder)[0] == before
    assert identities(folder, trust_remote_code=True)[0] != trusting


def test_the_model_s_identity_follows_its_config(folder):
    before, _ = identities(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    assert identities(folder)[0] != before


def test_the_named_end_of_sequence_is_part_of_the_tokenizer_s_identity(folder):
    assert identities(folder)[1] != identities(folder, eos_token="<|im_end|>")[1]


def test_a_fresh_config_is_named_by_its_fields(tokenizer_folder):
    def identity(size):
        return model_identity(ModelConfig(config={**TINY, "hidden_size": size}, tokenizer=str(tokenizer_folder)))

    first, same, other = identity(8), identity(8), identity(16)
    assert first == same != other
