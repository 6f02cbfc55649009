"""Exact match of final answers."""

import numpy as np
import pyarrow as pa

from s2l_ray.metrics.answers import response_is_correct
from s2l_ray.metrics.intervals import Estimate, proportion_interval
from s2l_ray.metrics.metric import Answer, Metric


class ExactMatch(Metric):
    """Share of answers whose final answer is the gold one, 0 to 1, with Wilson's interval; no gold counts as wrong."""

    name = "exact_match"

    def score(self, answer: Answer) -> float:
        """Return 1 for a correct answer, else 0."""
        return float(answer.gold is not None and response_is_correct(answer.prediction, answer.gold))

    def estimate(self, predictions: pa.Table, rng: np.random.Generator) -> Estimate:
        """Return the proportion; nothing is drawn."""
        values_N = predictions[self.name].to_numpy()
        return proportion_interval(round(float(values_N.sum())), len(values_N))


METRIC = ExactMatch()
