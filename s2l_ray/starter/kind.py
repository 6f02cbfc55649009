"""Whether what a command is given is a recipe or rows."""

import json
from pathlib import Path

from s2l_ray.recipe.loading import shipped_recipes
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.rows.listing import format_by_ending

_MAX_RECIPE_BYTES = 1_000_000


def is_data(source: str) -> bool:
    """Tell whether what a command is given is rows, not a recipe: a data file, a folder, or a glob of them."""
    if source in shipped_recipes():
        return False
    bare = source.partition("?")[0] if "://" in source else source
    named = format_by_ending(bare) is not None and not _is_json_recipe(Path(source).expanduser())
    return named or Path(source).expanduser().is_dir() or "*" in source


def _is_json_recipe(path: Path) -> bool:
    """Tell whether a file is a recipe in JSON, which YAML holds: one object, of a recipe's keys."""
    if path.suffix.lower() != ".json" or not path.is_file() or path.stat().st_size > _MAX_RECIPE_BYTES:
        return False
    try:
        content = json.loads(path.read_bytes())
    except ValueError:  # rows, one object a line
        return False
    return isinstance(content, dict) and bool(content) and content.keys() <= Recipe.model_fields.keys()
