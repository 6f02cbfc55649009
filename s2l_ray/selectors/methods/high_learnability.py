"""The largest loss decrease: a baseline that S2L (arXiv 2403.07384) names, in our reading."""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need


class HighLearnability(Selector):
    """The largest loss decrease over training: score = l_0 - l_n.

    l_0 is the first recorded point: the untouched model where trajectories have point 0 (trajectory.include_initial),
    else the earliest one of training. With a single point every score is 0.
    """

    name = "high_learnability"
    needs = frozenset({Need.TRAJECTORIES})

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the largest decreases, the largest first."""
        assert pool.losses_NC is not None
        losses_N2 = pool.losses_NC[:, [0, -1]].astype(np.float64)
        return highest_first(losses_N2[:, 0] - losses_N2[:, 1], budget)


SELECTOR = HighLearnability()
