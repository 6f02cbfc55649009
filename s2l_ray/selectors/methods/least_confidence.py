"""The lowest mean token probability: a baseline that S2L (arXiv 2403.07384) names, in our reading."""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need


class LeastConfidence(Selector):
    """Lowest mean probability of a response token, score = -exp(-l_n).

    exp(-mean loss) is the geometric mean of the token probabilities, so the order is that of `high_loss` and only the
    score differs. Whether the paper means the arithmetic mean, which needs every token's probability, is unverified.
    """

    name = "least_confidence"
    needs = frozenset({Need.TRAJECTORIES})

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the least confident examples; ranked by loss, since tiny probabilities would round to equal."""
        found = highest_first(pool.last_losses_N, budget)
        assert found.scores_B is not None
        return Choice(found.positions_B, scores_B=-np.exp(-found.scores_B.astype(np.float64)))


SELECTOR = LeastConfidence()
