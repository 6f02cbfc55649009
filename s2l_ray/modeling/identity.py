"""Name the content of a model or tokenizer for fingerprints, without torch or transformers."""

import json
from pathlib import Path
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.modeling.adapters import base_of, is_adapter
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.storage.artifacts import folder_digest
from s2l_ray.storage.hub import commit_of
from s2l_ray.storage.links import link_out

_MODEL_FILES = (".safetensors", ".safetensors.index.json", "config.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "tokenizer.model",
                    "special_tokens_map.json", ".jinja", "added_tokens.json")
_TEMPLATES = "additional_chat_templates/*.jinja"


def model_identity(config: ModelConfig) -> dict[str, Any]:
    """Return what decides the model's content: a digest of a local folder, or name and commit on the hub."""
    identity: dict[str, Any] = config.identity()
    if config.path is not None:
        files = (*_MODEL_FILES, ".py") if config.trust_remote_code else _MODEL_FILES
        identity["weights"] = _content(config.path, config.revision, files, "model")
        if is_adapter(config.path):
            identity["base"] = model_identity(base_of(config.path))
    return identity


def tokenizer_identity(config: ModelConfig) -> dict[str, Any]:
    """Return what decides the tokenizer's content."""
    revision = config.revision if config.tokenizer is None else None
    content = _content(config.tokenizer_path, revision, _TOKENIZER_FILES, "tokenizer")
    return {"tokenizer": content, **({} if config.eos_token is None else {"eos_token": config.eos_token})}


def _content(path: str, revision: str | None, files: tuple[str, ...], what: str) -> str:
    folder = Path(path).expanduser()
    if folder.is_dir():
        _check_links(what, folder)
        if what == "model":
            _check_weights(folder)
        return folder_digest(folder, files, also=_TEMPLATES if what == "tokenizer" else None)
    if path.startswith((".", "/", "~")):
        raise InputError(f"{what} folder {path!r} does not exist")
    return f"{path}@{commit_of('model', path, revision)}"


def _check_links(what: str, folder: Path) -> None:
    """Refuse links out of the folder: a chat template could be any text file of this machine, put into every prompt."""
    for file in sorted(path for path in (*folder.iterdir(), *folder.glob(_TEMPLATES)) if path.is_file()):
        place = link_out(folder, file)
        if place is not None:
            raise InputError(f"{what} folder {str(folder)!r}: {file.relative_to(folder)} is a link to {place}, outside "
                             "the folder: copy it there")


def _check_weights(folder: Path) -> None:
    """Refuse a folder without safetensors, and an index whose parts lie outside it, unseen by the fingerprint."""
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"model folder {str(folder)!r} has no .safetensors file: save the model with save_pretrained")
    for index in folder.glob("*.safetensors.index.json"):
        try:
            parts = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(f"{index}: not an index of weights ({type(error).__name__}: {error})") from error
        elsewhere = sorted(str(part) for part in parts if part == ".." or Path(str(part)).name != part)
        if elsewhere:
            raise InputError(f"{index}: names {elsewhere[0]!r}, which is not a file of this folder: copy it there")
