"""The whole pool: the yardstick of every smaller budget."""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector


class Full(Selector):
    """Takes every example, in the pool's order; its budget is the pool's size."""

    name = "full"
    takes_budget = False
    control = "whole pool"

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return all positions in order."""
        return Choice(np.arange(budget))


SELECTOR = Full()
