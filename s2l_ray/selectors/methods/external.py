"""A score from elsewhere, such as a judge model's."""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need


class External(Selector):
    """Takes the highest scores of a table (example_id, score) that somebody else made.

    The way in for a method that is not here. Assumes that higher is better; equal scores are taken in the pool's order.
    """

    name = "external"
    needs = frozenset({Need.SCORES})

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the highest scores, the highest first."""
        assert pool.scores_N is not None
        return highest_first(pool.scores_N, budget)


SELECTOR = External()
