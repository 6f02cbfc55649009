"""How alike the clusters of trajectories are from seed to seed, and from point to point."""

import itertools
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from s2l_ray.numerics.kmeans import cluster_rows, resolve_num_clusters
from s2l_ray.recipe.selection import SelectionConfig

_SEEDS, _FEW_SEEDS = range(5), range(3)
_FEWEST = 3  # points, of which the last two are looked at


def seed_stability(losses_NC: np.ndarray, asked: Iterable[int | Literal["auto"]]) -> list[dict[str, Any]]:
    """Return, for each number of clusters, the adjusted Rand index of k-means over pairs of seeds: mean, low and high.

    It is 1 for the same clusters and about 0 for unrelated ones.
    """
    return [_stability(losses_NC, num_clusters)
            for num_clusters in sorted({resolve_num_clusters(count, len(losses_NC)) for count in asked})]


def _stability(losses_NC: np.ndarray, num_clusters: int) -> dict[str, Any]:
    labels = _labels(losses_NC, num_clusters, _SEEDS)
    scores = _agreements(itertools.combinations(labels, 2))
    return {"num_clusters": num_clusters, "num_seeds": len(labels), "mean": float(np.mean(scores)),
            "low": min(scores), "high": max(scores)}


def have_settled(losses_NC: np.ndarray) -> bool:
    """Tell whether the last two points each changed the clusters less than another seed of k-means would have.

    That is, whether the adjusted Rand index of the clusters with and without the point, of one seed, is at least that
    of two seeds with it, both as means over three seeds; sqrt(N / 2) clusters.
    """
    num_points = losses_NC.shape[1]
    if num_points < _FEWEST:
        return False
    num_clusters = resolve_num_clusters("auto", len(losses_NC))
    last = [_labels(losses_NC[:, :count], num_clusters, _FEW_SEEDS) for count in range(num_points - 2, num_points + 1)]
    return all(_changed_less_than_a_seed(before, now) for before, now in itertools.pairwise(last))


def _changed_less_than_a_seed(before: list[np.ndarray], now: list[np.ndarray]) -> bool:
    with_point = np.mean(_agreements(zip(now, before, strict=True)))
    with_seed = np.mean(_agreements(itertools.combinations(now, 2)))
    return bool(with_point >= with_seed)


def _labels(losses_NC: np.ndarray, num_clusters: int, seeds: Iterable[int]) -> list[np.ndarray]:
    defaults = SelectionConfig()
    return [cluster_rows(losses_NC, num_clusters, np.random.default_rng(seed), fit_rows=defaults.kmeans_fit_rows,
                         iterations=defaults.kmeans_iterations).labels_N for seed in seeds]


def _agreements(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    from sklearn.metrics import adjusted_rand_score  # heavy

    return [float(adjusted_rand_score(one, other)) for one, other in pairs]
