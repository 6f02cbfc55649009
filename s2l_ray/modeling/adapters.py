"""The files of an adapter, and which base model it belongs to; without torch."""

import json
from pathlib import Path

from s2l_ray.errors import InputError
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.storage.artifacts import Artifact

ADAPTER_CONFIG = "adapter_config.json"
BASE = "base_model.json"
"""Beside an adapter of ours: the recipe's words for its base. peft's own file knows the name alone."""


def write_base(folder: Path, config: ModelConfig) -> None:
    """Note beside an adapter what it belongs to."""
    (folder / BASE).write_text(json.dumps(config.model_dump(mode="json", exclude_defaults=True), indent=2) + "\n")


def is_adapter(path: str | Path) -> bool:
    """Tell whether a local folder holds an adapter."""
    return Path(path).expanduser().joinpath(ADAPTER_CONFIG).is_file()


def base_of(path: str | Path) -> ModelConfig:
    """Return what the adapter in a folder belongs to.

    Raises
    ------
    InputError
        It does not say, or says itself.
    """
    folder = Path(path).expanduser()
    found = _named_base(folder)
    if found.path is not None and Path(found.path).expanduser().absolute() == folder.absolute():
        raise InputError(f"model folder {str(path)!r} holds an adapter of itself: set base_model_name_or_path in its "
                         f"{ADAPTER_CONFIG} to the model that it was trained on")
    return found


def _named_base(folder: Path) -> ModelConfig:
    try:
        if (folder / BASE).is_file():
            return ModelConfig.model_validate_json((folder / BASE).read_text())
        found = json.loads((folder / ADAPTER_CONFIG).read_text())
        return ModelConfig(path=found["base_model_name_or_path"], revision=found.get("revision"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"model folder {str(folder)!r} holds an adapter whose {ADAPTER_CONFIG} names no base model "
                         f"({type(error).__name__}): set base_model_name_or_path in it") from error


def holds_model(artifact: Artifact, folder: str) -> bool:
    """Tell whether one of an artifact's folders holds a saved model or adapter."""
    return artifact.exists(f"{folder}/config.json") or artifact.exists(f"{folder}/{ADAPTER_CONFIG}")
