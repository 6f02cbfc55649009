"""What of this machine the work reads: other nodes have to see it too."""

from collections.abc import Sequence
from pathlib import Path

from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.rows.listing import list_files

_READ_HERE = ("trajectory.checkpoints", "selection.scores", "selection.required", "selection.forbidden")
"""By the command itself."""
_HARNESS = "evaluation.harness.include_path"
"""A folder, of which the rest is read as data are."""


def local_inputs(recipe: Recipe) -> list[str]:
    """Return the files and folders of this machine that a recipe reads, of data sets of many files the first."""
    folders = local_folders(list(recipe.models().values()))
    paths = {key: path for key, path in recipe.paths().items() if key not in _READ_HERE and "://" not in path}
    files = [path if key == _HARNESS else list_files(path)[0] for key, path in paths.items()]
    return list(dict.fromkeys([*files, *folders]))


def local_folders(models: Sequence[ModelConfig]) -> list[str]:
    """Return the folders of this machine that models and their tokenizers are in."""
    folders = [name for model in models for name in (model.path, model.tokenizer) if name]
    return list(dict.fromkeys(folder for folder in folders if Path(folder).is_dir()))
