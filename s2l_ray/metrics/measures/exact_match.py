"""Exact match of final answers."""

import numpy as np
import pyarrow as pa

from s2l_ray.metrics.intervals import Estimate, share_interval
from s2l_ray.metrics.metric import Answer, Metric, Score
from s2l_ray.metrics.responses import judge_response


class ExactMatch(Metric):
    """Share of answers whose final answer is the gold one, 0 to 1, with Wilson's interval; no gold counts as wrong."""

    name = "exact_match"
    needs_gold = True

    def score(self, answer: Answer) -> float:
        """Return 1 for a correct answer, else 0."""
        return self.judge(answer).value

    def judge(self, answer: Answer) -> Score:
        """Return 1 for a correct answer, else 0, with what the judges said where they did not agree."""
        if answer.gold is None:
            return Score(0.0)
        verdict = judge_response(answer.prediction, answer.accepted or (answer.gold,), answer.choices)
        return Score(float(verdict.is_equal), verdict.disagreement)

    def estimate(self, predictions: pa.Table, rng: np.random.Generator) -> Estimate:
        """Return the proportion; nothing is drawn."""
        return share_interval(predictions[self.name].to_numpy())


METRIC = ExactMatch()
