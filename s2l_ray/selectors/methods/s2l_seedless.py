"""S2L without a lottery: inside a cluster, members are taken by their place and not by lot. Our own."""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.s2l import S2L
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice


class SeedlessS2L(S2L):
    """S2L whose every seed gives one selection.

    Of two draws of S2L from the same clusters about 70 % differ (on trajectories of real models), so a comparison of
    two seeds is mostly one of two lotteries. Here the members of a cluster stand in the order of their distance to its
    centroid (equal ones in the pool's order), are cut into as many runs of equal length as the cluster gives, and the
    middle one of each run is taken: near and far members in their shares, as a draw has them on average. k-means starts
    from one fixed seed. Clusters, quotas, scores and options are S2L's; so is that it is not nested.
    """

    name = "s2l_seedless"
    takes_seed = False
    title = "S2L without a seed"

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return an even sample over clusters, the same for every seed."""
        return super().select(pool, budget, config, np.random.default_rng(0))

    def take(
        self, members: np.ndarray, quota: int, distances: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return members at even steps from the nearest to the farthest."""
        if not quota:
            return members[:0]
        order = np.argsort(distances, kind="stable")
        return members[order[(2 * np.arange(quota) + 1) * len(members) // (2 * quota)]]


SELECTOR = SeedlessS2L()
