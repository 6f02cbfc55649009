"""Greedy k-center: the examples that leave none of the pool far from a chosen one.

Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
arXiv 1708.00489, Algorithm 1 (the greedy 2-approximation of Gonzalez, 1985).
"""

import numpy as np

from s2l_ray.numerics.kcenter import greedy_k_center
from s2l_ray.numerics.neighbours import isolated_rows
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.tables.needs import Need


class KCenter(Selector):
    """Takes again and again the example farthest from all chosen: s_t = argmax_i min_{j < t} ||e_i - s_j||.

    Assumes that embedding distance is what matters and that every region counts alike, however few examples it holds.
    Nested: the order is the same for every budget.

    Our choices where the paper is silent: the first centre is drawn with the seed (common code takes row 0 always);
    ties go to the lowest id; and since the rule seeks outliers, the `outlier_share` of the pool farthest from its 5
    nearest neighbours is taken only where the budget exceeds all others, the least isolated first (with 0 every
    example is a candidate). An example's score is its distance to the nearest one chosen before; the first's is 2,
    the largest distance there is, and an outlier's 0. If all embeddings are equal, the order after the
    first is the pool's.
    """

    name = "k_center"
    needs = frozenset({Need.EMBEDDINGS})
    parameters = frozenset({"outlier_share"})
    takes_seed = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the centres in the order they were found."""
        assert pool.embeddings_ND is not None
        outliers = isolated_rows(pool.embeddings_ND, config.outlier_share, rng)
        centres = greedy_k_center(pool.embeddings_ND, budget, rng, outliers)
        facts = {"radius": round(centres.radius, 4), "outliers_set_aside": len(outliers)}
        return Choice(centres.positions_B, scores_B=centres.distances_B, facts=facts)


SELECTOR = KCenter()
