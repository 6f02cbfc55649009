"""Recipes about the quickstart's word problems: their data is written and their models are in place."""

from collections.abc import Sequence
from pathlib import Path

from s2l_ray.errors import InputError
from s2l_ray.quickstart import ASSETS
from s2l_ray.quickstart.problems import write_files
from s2l_ray.recipe.loading import load_recipe
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.storage.files import resolve_local

NUM_POOL, NUM_HELD_OUT = 12_000, 480
MADE_HERE = "made-by-s2l-quickstart"
"""What a recipe gives as data.path to be about the word problems."""


def load_filled(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe; if it is about the word problems, write them (the recipe's seed decides which) and fill them in.

    Raises
    ------
    InputError
        The recipe is wrong, or it is about the word problems and the storage is not a local folder.
    """
    recipe = load_recipe(source, overrides)
    if recipe.data.path != MADE_HERE:
        return recipe
    folder = resolve_local(recipe.storage)
    if folder is None:
        raise InputError(f"storage={recipe.storage!r}: the quickstart writes its data to a local folder; give one")
    data = folder / "data" / "quickstart" / f"seed-{recipe.seed}"
    data.mkdir(parents=True, exist_ok=True)
    write_files(data, NUM_POOL, NUM_HELD_OUT, recipe.seed)
    places = [
        f"data.path={data / 'pool.jsonl'}",
        f"proxy.model.path={ASSETS / 'proxy_base'}",
        f"target.model.path={ASSETS / 'target_base'}",
        f"evaluation.tasks.0.path={data / 'held_out.jsonl'}",
    ]
    return load_recipe(source, [*places, *overrides])
