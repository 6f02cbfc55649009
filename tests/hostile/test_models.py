"""Hostile model folders: never unpickled, never run, never read outside the folder; refused in words."""

import json
import pickle
import shutil
import struct

import pytest

from s2l_ray.errors import InputError
from s2l_ray.modeling.identity import model_identity, tokenizer_identity
from s2l_ray.modeling.models import load_model, load_tokenizer
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.model import ModelConfig

BASE = ASSETS / "proxy_base"


@pytest.fixture
def folder(tmp_path):
    """A copy of the quickstart's proxy."""
    return shutil.copytree(BASE, tmp_path / "model")


def load(folder, **settings):
    config = ModelConfig(path=str(folder), **settings)
    model_identity(config)
    tokenizer_identity(config)
    load_tokenizer(config)
    return load_model(config, vocab_size=0, seed=0)


def header(content, length=None):
    """A safetensors file with this header and 64 bytes of weights."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * 64


def tensor(**changes):
    return {"x": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64], **changes}}


BAD_WEIGHTS = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "zeros": b"\0" * 1000,
    "header longer than the file": header(tensor(), 10_000),
    "header of 2^63 bytes": header(tensor(), 2**63),
    "header of 2^64 - 1 bytes": header(tensor(), 2**64 - 1),
    "header no JSON": header(b"{no"),
    "header not UTF-8": header(b"\xff\xfe\xfd"),
    "header a list": header([1]),
    "header nested": header(b"[" * 50_000),
    "tensor a number": header({"x": 5}),
    "unknown type": header(tensor(dtype="F33")),
    "offsets beyond the file": header(tensor(data_offsets=[0, 1 << 40])),
    "offsets backwards": header(tensor(data_offsets=[64, 0])),
    "offsets negative": header(tensor(data_offsets=[-64, 0])),
    "offsets overlap": header({**tensor(), "y": tensor()["x"]}),
    "shape beyond the bytes": header(tensor(shape=[1 << 40])),
    "shape overflows": header(tensor(shape=[1 << 62, 1 << 62])),
    "shape negative": header(tensor(shape=[-16])),
    "a pickle": pickle.dumps({"x": 1}),
    "a zip": b"PK\x03\x04" + b"\0" * 100,
    "cut in half": (BASE / "model.safetensors").read_bytes()[:100_000],
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_a_bad_weights_file_is_refused(case, folder):
    (folder / "model.safetensors").write_bytes(BAD_WEIGHTS[case])
    with pytest.raises(InputError, match=r"model folder '.*model' cannot be loaded \("):
        load(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "tf_model.h5", "flax_model.msgpack"])
def test_a_folder_of_pickles_is_refused_and_none_is_opened(name, folder, tmp_path, trap):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(trap(tmp_path / "trap")))
    with pytest.raises(InputError, match=r"has no \.safetensors file: save the model with save_pretrained"):
        load(folder)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(ModelConfig(path=str(folder)), vocab_size=0, seed=0)
    assert not (tmp_path / "trap").exists()


def test_a_pickle_beside_safetensors_is_not_opened(folder, tmp_path, trap):
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).write_bytes(pickle.dumps(trap(tmp_path / "trap")))
    load(folder)
    assert not (tmp_path / "trap").exists()


def change(file, **values):
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **values}))


CODE = "from pathlib import Path\nPath(r'TRAP').touch()\nclass Config: pass\nclass Model: pass\nclass Tokenizer: pass\n"


@pytest.mark.parametrize("model_type", ["evil", None], ids=["own type", "known type"])
def test_code_that_comes_with_a_model_does_not_run(model_type, folder, tmp_path):
    (folder / "evil.py").write_text(CODE.replace("TRAP", str(tmp_path / "trap")))
    maps = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    change(folder / "config.json", auto_map=maps, **({"model_type": model_type} if model_type else {}))
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]})
    try:
        load(folder)
    except InputError as error:
        assert model_type and "cannot be loaded" in str(error)
    assert not (tmp_path / "trap").exists()


def test_code_of_another_repository_does_not_run(folder):
    change(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "someone/evil--evil.Config"})
    with pytest.raises(InputError, match="cannot be loaded"):
        load(folder)


BAD_CONFIGS = {"empty": "", "no JSON": "{", "a list": "[]", "a text": '"x"', "no model_type": "{}", "null": "null",
               "unknown type": '{"model_type": "nonsense"}', "type a number": '{"model_type": 5}',
               "encoder": '{"model_type": "t5"}', "nested": "[" * 100_000, "not UTF-8": "\udcff",
               "negative sizes": '{"model_type": "gpt_neox", "hidden_size": -1}',
               "sizes are texts": '{"model_type": "gpt_neox", "hidden_size": "x"}',
               "other shapes": '{"model_type": "gpt_neox", "hidden_size": 8, "num_attention_heads": 2}'}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_config_is_refused(case, folder):
    (folder / "config.json").write_text(BAD_CONFIGS[case], errors="surrogateescape")
    with pytest.raises(InputError, match=r"(model|tokenizer) (folder )?'.*model' cannot be loaded"):
        load(folder)


BAD_TOKENIZERS = {"empty": "", "no JSON": "{", "a list": "[]", "null": "null", "nested": "[" * 100_000,
                  "unknown kind": '{"version": "1.0", "model": {"type": "nonsense"}}'}


@pytest.mark.parametrize("case", BAD_TOKENIZERS)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_bad_tokenizer_is_refused_or_not_needed(case, name, folder):
    (folder / name).write_text(BAD_TOKENIZERS[case])
    try:
        load_tokenizer(ModelConfig(path=str(folder)))
    except InputError as error:
        assert "tokenizer" in str(error)
    else:
        assert name == "tokenizer_config.json"


BAD_INDEXES = {
    "climbs": ({"weight_map": {"x": "../outside.safetensors"}}, r"names '\.\./outside\.safetensors', which is not a file of"),
    "climbs from below": ({"weight_map": {"x": "sub/../../outside.safetensors"}}, "which is not a file of this folder"),
    "is absolute": ({"weight_map": {"x": "/etc/passwd"}}, "names '/etc/passwd'"),
    "names the parent": ({"weight_map": {"x": ".."}}, r"names '\.\.'"),
    "names a number": ({"weight_map": {"x": 5}}, "names '5'"),
    "map a list": ({"weight_map": [1]}, "not an index of weights"),
    "without a map": ({}, "not an index of weights"),
    "a list": ([], "not an index of weights"),
}


@pytest.mark.parametrize("case", BAD_INDEXES)
def test_an_index_stays_within_its_folder(case, folder, tmp_path):
    content, message = BAD_INDEXES[case]
    shutil.copy(folder / "model.safetensors", tmp_path / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load(folder)


@pytest.mark.parametrize("path", ["../../../nowhere", "./../nowhere", "/nowhere/../nowhere", "~/../../nowhere/x"])
def test_a_path_that_climbs_to_nothing_is_refused_not_sought_on_the_hub(path):
    with pytest.raises(InputError, match="does not exist"):
        model_identity(ModelConfig(path=path))


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json", "config.json", "other.txt",
                                  "additional_chat_templates/tools.jinja"])
def test_a_link_out_of_the_folder_is_refused(name, folder, tmp_path):
    (folder / name).unlink(missing_ok=True)
    (tmp_path / "private").write_text("my letters")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(tmp_path / "private")
    for refuse in (lambda: model_identity(ModelConfig(path=str(folder))), lambda: tokenizer_identity(ModelConfig(path=str(folder)))):
        with pytest.raises(InputError, match=f"{name} is a link to .*private, outside the folder") as caught:
            refuse()
        assert "letters" not in str(caught.value)


def test_the_hubs_cache_is_a_folder_of_links(folder, tmp_path):
    commit = tmp_path / "cache" / "snapshots" / "abc"
    commit.mkdir(parents=True)
    shutil.copytree(folder, tmp_path / "cache" / "blobs")
    for file in folder.iterdir():
        (commit / file.name).symlink_to(f"../../blobs/{file.name}")
    same = [model_identity(ModelConfig(path=str(place)))["weights"] for place in (folder, commit)]
    assert same[0] == same[1]


def test_an_adapter_whose_base_is_not_there_is_refused(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    with pytest.raises(InputError, match="model 'somebody/else' is neither a folder here nor reachable"):
        model_identity(ModelConfig(path=str(folder)))
