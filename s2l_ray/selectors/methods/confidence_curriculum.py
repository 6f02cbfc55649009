"""Evenly over all losses, the most confident first: a baseline that S2L (arXiv 2403.07384) names, in our reading."""

import numpy as np

from s2l_ray.numerics.ranking import ascending_order
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.tables.needs import Need


class ConfidenceCurriculum(Selector):
    """An even sample of all confidences, ordered as a curriculum: the most confident first, the least at the end.

    The paper's baseline works during training, with decreasing confidence; its definition is unverified. This offline
    reading is our own: of all examples by ascending loss, the middle one of each of B equally long runs, in that order
    (rank floor((2j + 1) N / 2B) for j = 0..B-1). Score = -l_n. The ranks are the curriculum: a training that shuffles
    sees the same examples without it. Not nested.
    """

    name = "confidence_curriculum"
    needs = frozenset({Need.TRAJECTORIES})
    is_nested = False

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return evenly spaced ranks of the ascending losses."""
        losses_N = pool.last_losses_N
        ranks = (2 * np.arange(budget) + 1) * len(pool) // (2 * budget)
        positions = ascending_order(losses_N)[ranks]
        return Choice(positions, scores_B=-losses_N[positions])


SELECTOR = ConfidenceCurriculum()
