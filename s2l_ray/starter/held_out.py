"""What leaks are looked for by: the rows of a recipe's tasks."""

from s2l_ray.recipe.recipe import Recipe
from s2l_ray.rows.held_out import held_out_of
from s2l_ray.rows.leaks import HeldOut, index_held_out
from s2l_ray.storage.files import Storage


def index_tasks(recipe: Recipe) -> HeldOut | None:
    """Return what prepare looks for in the pool; None without tasks, or with `data.decontaminate` off.

    Raises
    ------
    InputError
        A task's rows cannot be read.
    """
    found = held_out_of(Storage(recipe.storage), recipe)
    return index_held_out((rows.task, rows.read()) for rows in found) if found else None
