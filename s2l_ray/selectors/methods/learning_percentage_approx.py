"""Learning Percentage from one epoch of the proxy alone (arXiv 2402.10430)."""

import numpy as np

from s2l_ray.selectors.methods.learning_percentage import MOST_NATS, LearningPercentage
from s2l_ray.selectors.pool import Pool


class LearningPercentageApprox(LearningPercentage):
    """Low LP_approx(1) = (P_0 - P_1) / P_0 is hard: LP without the finished proxy, so one epoch of training suffices.

    All else is as in `LearningPercentage`. It is at most 1, and 0 where nothing was learned.
    """

    name = "learning_percentage_approx"

    def _percentages(self, pool: Pool, epoch_1: int) -> np.ndarray:
        assert pool.losses_NC is not None
        losses_N2 = pool.losses_NC[:, [0, epoch_1]].astype(np.float64)
        return -np.expm1(np.minimum(losses_N2[:, 1] - losses_N2[:, 0], MOST_NATS))


SELECTOR = LearningPercentageApprox()
