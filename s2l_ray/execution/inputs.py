"""What of this machine the work reads: other nodes have to see it too."""

from collections.abc import Sequence
from pathlib import Path

from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.rows.listing import list_files


def local_inputs(recipe: Recipe) -> list[str]:
    """Return the files and folders of this machine that a recipe reads, of data sets of many files the first."""
    folders = local_folders(list(recipe.models().values()))
    data = [path for path in (recipe.data.path, *(task.path for task in recipe.evaluation.tasks)) if path]
    files = [list_files(path)[0] for path in data if "://" not in path]
    tasks = recipe.evaluation.harness.include_path
    return list(dict.fromkeys([*files, *folders, *([] if tasks is None else [tasks])]))


def local_folders(models: Sequence[ModelConfig]) -> list[str]:
    """Return the folders of this machine that models and their tokenizers are in."""
    folders = [name for model in models for name in (model.path, model.tokenizer) if name]
    return list(dict.fromkeys(folder for folder in folders if Path(folder).is_dir()))
