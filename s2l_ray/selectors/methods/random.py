"""Uniform sampling without replacement: the control every method is judged against."""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector


class Random(Selector):
    """Takes the first `budget` examples of one seeded shuffle, so smaller budgets are nested in larger ones."""

    name = "random"
    takes_seed = True
    control = "chance"

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return a uniform sample in random order."""
        chances_N = np.full(len(pool), budget / len(pool), dtype=np.float32)
        return Choice(rng.permutation(len(pool))[:budget], chances_N=chances_N)


SELECTOR = Random()
