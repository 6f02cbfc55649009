"""The difference of two models on the same examples."""

import numpy as np
import pyarrow as pa

from s2l_ray.metrics.intervals import Estimate, paired_difference


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
