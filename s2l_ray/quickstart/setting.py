"""The quickstart's recipe, with its data written and its models in place."""

from collections.abc import Sequence

from s2l_ray.config import Recipe
from s2l_ray.errors import InputError
from s2l_ray.quickstart import ASSETS
from s2l_ray.quickstart.problems import write_files
from s2l_ray.recipes import load_recipe
from s2l_ray.storage import resolve_local

NUM_POOL, NUM_HELD_OUT = 12_000, 480


def quickstart_recipe(overrides: Sequence[str]) -> Recipe:
    """Write the word problems (the recipe's seed decides which) and return the recipe that uses them.

    Raises
    ------
    InputError
        The storage is not a local folder, or an override is wrong.
    """
    recipe = load_recipe("quickstart", overrides)
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
    return load_recipe("quickstart", [*places, *overrides])
