"""The middle of the perplexity ranking: a baseline that S2L (arXiv 2403.07384) names, in our reading."""

import numpy as np

from s2l_ray.numerics.ranking import mean_ranks
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need


class MiddlePerplexity(Selector):
    """The middle of the perplexity ranking: score = -|rank - (N - 1) / 2|.

    After Marion et al., "When Less is More", arXiv 2309.04564. By ranks, so no scale matters; equal perplexities share
    their mean rank. Our choice: the window grows around the median, the nearest first. All equal: all score alike.
    """

    name = "middle_perplexity"
    needs = frozenset({Need.TRAJECTORIES})

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the examples nearest to the median rank."""
        return highest_first(-np.abs(mean_ranks(pool.last_losses_N) - (len(pool) - 1) / 2), budget)


SELECTOR = MiddlePerplexity()
