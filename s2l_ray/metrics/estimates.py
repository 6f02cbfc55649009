"""From a table of predictions to one metric's value with its interval, and to the difference of two models."""

import numpy as np
import pyarrow as pa

from s2l_ray.metrics.intervals import Estimate, mean_interval, paired_difference, proportion_interval
from s2l_ray.metrics.text_overlap import bleu_interval


def estimate(metric: str, predictions: pa.Table, rng: np.random.Generator) -> Estimate:
    """Return a metric over the rows of a predictions table.

    loss: mean over examples of their mean NLL per supervised token (nats); exact_match: proportion with Wilson's
    interval; rouge_l: mean F1 in 0..1; bleu: of the corpus, 0..100. Bootstrap intervals but for exact_match.
    """
    if metric == "bleu":
        return bleu_interval(predictions["prediction"].to_pylist(), predictions["reference"].to_pylist(), rng)
    values_N = predictions[metric].to_numpy()
    if metric == "exact_match":
        return proportion_interval(round(float(values_N.sum())), len(values_N))
    return mean_interval(values_N, rng)


def difference(metric: str, ours: pa.Table, theirs: pa.Table, rng: np.random.Generator) -> Estimate:
    """Return the mean difference (ours - theirs) of a metric over the same examples, paired, with its interval.

    Raises
    ------
    ValueError
        The two tables are not about the same examples in the same order.
    """
    if not ours["example_id"].equals(theirs["example_id"]):
        raise ValueError("the two predictions tables are about different examples; evaluate both on the same tasks")
    return paired_difference(ours[metric].to_numpy(), theirs[metric].to_numpy(), rng)
