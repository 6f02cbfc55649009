"""The lowest loss under the finished proxy: a baseline that S2L (arXiv 2403.07384) names, in our reading."""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need


class LowLoss(Selector):
    """What the finished proxy does best at: score = -l_n."""

    name = "low_loss"
    needs = frozenset({Need.TRAJECTORIES})

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the lowest last losses, the lowest first."""
        return highest_first(-pool.last_losses_N, budget)


SELECTOR = LowLoss()
