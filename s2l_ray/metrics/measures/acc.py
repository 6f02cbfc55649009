"""Accuracy by likelihood: the option that the model finds likeliest."""

import numpy as np
import pyarrow as pa

from s2l_ray.metrics.intervals import Estimate, share_interval
from s2l_ray.metrics.metric import Metric, Options


class Accuracy(Metric):
    """Share of multiple-choice questions whose right option has the lowest summed loss, 0 to 1; Wilson's interval.

    As `acc` of lm-evaluation-harness ranks them: an option is all its tokens after the question, its end not counted,
    and of equally likely ones the first is taken. Nothing is generated.
    """

    name = "acc"
    needs = "options"
    needs_gold = True

    def rank(self, options: Options) -> float:
        """Return 1 where the right option is the likeliest, else 0."""
        return float(int(np.argmin(self.costs(options))) == options.right)

    def costs(self, options: Options) -> np.ndarray:
        """Return what the options are compared by, (K,), the lowest being the best."""
        return np.array(options.losses)

    def estimate(self, predictions: pa.Table, rng: np.random.Generator) -> Estimate:
        """Return the proportion; nothing is drawn."""
        return share_interval(predictions[self.name].to_numpy())


METRIC = Accuracy()
