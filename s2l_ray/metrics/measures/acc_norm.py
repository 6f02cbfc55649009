"""Accuracy by likelihood a character, where options differ in length."""

import numpy as np

from s2l_ray.metrics.measures.acc import Accuracy
from s2l_ray.metrics.metric import Options


class NormalisedAccuracy(Accuracy):
    """Share of multiple-choice questions whose right option has the lowest loss a character, 0 to 1; Wilson's interval.

    As `acc_norm` of lm-evaluation-harness: as `acc`, each option's loss divided by its number of characters.
    """

    name = "acc_norm"

    def costs(self, options: Options) -> np.ndarray:
        """Return the losses a character, (K,)."""
        return np.array(options.losses) / np.array(options.lengths)


METRIC = NormalisedAccuracy()
