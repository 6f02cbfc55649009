"""How alike the clusters of trajectories are from seed to seed."""

import itertools
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from s2l_ray.numerics.kmeans import cluster_rows, resolve_num_clusters
from s2l_ray.recipe.selection import SelectionConfig

_SEEDS = range(5)


def seed_stability(losses_NC: np.ndarray, asked: Iterable[int | Literal["auto"]]) -> list[dict[str, Any]]:
    """Return, for each number of clusters, the adjusted Rand index of k-means over pairs of seeds: mean, low and high.

    It is 1 for the same clusters and about 0 for unrelated ones.
    """
    return [_stability(losses_NC, num_clusters)
            for num_clusters in sorted({resolve_num_clusters(count, len(losses_NC)) for count in asked})]


def _stability(losses_NC: np.ndarray, num_clusters: int) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score  # heavy

    defaults = SelectionConfig()
    labels = [
        cluster_rows(losses_NC, num_clusters, np.random.default_rng(seed), fit_rows=defaults.kmeans_fit_rows,
                     iterations=defaults.kmeans_iterations).labels_N
        for seed in _SEEDS
    ]
    scores = [float(adjusted_rand_score(first, second)) for first, second in itertools.combinations(labels, 2)]
    return {"num_clusters": num_clusters, "num_seeds": len(labels), "mean": float(np.mean(scores)),
            "low": min(scores), "high": max(scores)}
