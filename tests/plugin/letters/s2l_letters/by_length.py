"""Long responses are likelier."""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need


class ByLength(Selector):
    """Draws without replacement, each example in proportion to its supervised tokens; equal ones by chance."""

    name = "by_length"
    needs = frozenset({Need.LENGTHS})
    takes_seed = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the first arrivals of one exponential clock for each example (Efraimidis and Spirakis, 2006)."""
        assert pool.lengths_N is not None
        return highest_first(-rng.exponential(size=len(pool)) / np.maximum(pool.lengths_N, 1), budget)


SELECTOR = ByLength()
