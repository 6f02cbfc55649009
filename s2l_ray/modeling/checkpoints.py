"""Checkpoints of somebody's own training as trajectory points, instead of a proxy that is trained here."""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.modeling.adapters import BASE, is_adapter
from s2l_ray.modeling.identity import model_identity
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.storage.artifacts import MANIFEST

_MODEL = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json",
          BASE)
_TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.jinja")
"""What is taken of a checkpoint: the states of optimizer, schedule and random generators are left."""


@dataclass(frozen=True)
class Checkpoint:
    """The weights, or adapters, that a training had after some optimizer steps."""

    step: int
    folder: Path

    @property
    def files(self) -> list[Path]:
        """Return what is taken of it."""
        return [path for path in sorted(self.folder.iterdir())
                if path.is_file() and any(fnmatch(path.name, pattern) for pattern in (*_MODEL, *_TOKENIZER))]

    @property
    def has_tokenizer(self) -> bool:
        """Tell whether a tokenizer lies beside the weights."""
        return any((self.folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))


def find_checkpoints(folder: str) -> tuple[Checkpoint, ...]:
    """Return a training's checkpoints by their steps, as transformers' Trainer leaves them: DIR/checkpoint-<step>/.

    Any folder whose name ends in its step serves. The model that a Trainer leaves in DIR itself is not taken: how many
    steps it had is not said there.

    Raises
    ------
    InputError
        There are fewer than two, two have one step, or some hold adapters and others do not.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise InputError(f"trajectory.checkpoints={folder!r} is no folder of this machine")
    found = []
    for path in sorted(place.iterdir()):
        step = re.search(r"(?:^|\D)(\d+)$", path.name)
        if step and (is_adapter(path) or (path / "config.json").is_file()):
            found.append(Checkpoint(int(step[1]), path))
    found.sort(key=lambda one: one.step)
    if len(found) < 2:
        names = [one.folder.name for one in found]
        raise InputError(f"trajectory.checkpoints={folder!r} needs two or more folders such as checkpoint-500, each "
                         f"with a config.json or adapter_config.json; it has {names or 'none'}")
    same = [(one, other) for one, other in itertools.pairwise(found) if one.step == other.step]
    if same:
        one, other = same[0]
        raise InputError(f"trajectory.checkpoints={folder!r}: {one.folder.name} and {other.folder.name} have one step: "
                         "move one elsewhere")
    if len({is_adapter(one.folder) for one in found}) > 1:
        raise InputError(f"trajectory.checkpoints={folder!r}: some hold adapters and others whole models: move those "
                         "of another training elsewhere")
    return tuple(found)


def fractions_of(folder: str, steps: Sequence[int]) -> list[float]:
    """Return the fraction of the training at each checkpoint: of a proxy of ours as it says, else of the last one's."""
    manifest = Path(folder).expanduser() / MANIFEST
    content = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    points = content.get("points") if isinstance(content, dict) and content.get("stage") == "proxy" else None
    if points and [point["step"] for point in points] == list(steps):
        return [float(point["fraction"]) for point in points]
    return [step / steps[-1] for step in steps]


def checkpoints_identity(checkpoints: tuple[Checkpoint, ...]) -> list[list[Any]]:
    """Return what decides the points: each step, and the content of its weights."""
    return [[one.step, model_identity(ModelConfig(path=str(one.folder)))] for one in checkpoints]


def is_checkpoint(model: ModelConfig, folder: str | None) -> bool:
    """Tell whether a model lies among a folder's checkpoints."""
    inside = None if model.path is None else Path(model.path).expanduser().absolute()
    return folder is not None and inside is not None and Path(folder).expanduser().absolute() in inside.parents
