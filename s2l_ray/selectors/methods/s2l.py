"""S2L: cluster the loss trajectories of a small proxy and sample evenly over the clusters.

Yang et al., "SmallToLarge (S2L): Scalable Data Selection for Fine-tuning Large Language Models by Summarizing
Training Trajectories of Small Models", NeurIPS 2024, arXiv 2403.07384, Algorithm 1.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.numerics.allocation import water_filling
from s2l_ray.numerics.kmeans import cluster_rows, resolve_num_clusters
from s2l_ray.numerics.rows import Rows
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.even import rounded, taken_evenly
from s2l_ray.selectors.per import joined, placed, sources_of
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.tables.needs import Need

Take = Callable[[np.ndarray, int, np.ndarray, np.random.Generator], np.ndarray]
"""(members, quota, their distances to the centroid, generator) -> the members that are taken."""


class S2L(Selector):
    """Examples with like trajectories have like gradients, so a few of each cluster stand for the rest.

    k-means with Euclidean distance on the raw losses; clusters by ascending size; cluster k gives
    R_k = (B - |S|) / (K - k + 1) of its members, uniformly drawn, or all it has. Ranks follow the visits: the
    smallest cluster's members first. Not nested: another budget draws other members.

    With `stratify_by` each source first gets its share of the budget by the same rule and is clustered alone, as the
    authors' code does (Algorithm 1 clusters the whole pool); a source of fewer than K examples then makes one cluster
    of each. With `least_cluster_size` the members of smaller clusters are drawn from, all alike, only when the others
    have given all they have: 3 is what the authors' code does, and Algorithm 1 knows nothing of. Our choice where the
    paper is silent: the trajectories exclude the untouched model unless `include_initial`; `normalise` (zscore, ratio)
    is our addition. A point's score is minus its distance to the centroid. The findings give each cluster's centroid
    (as clustered) and its members' mean losses in nats at all recorded points. If all trajectories are equal there is
    one non-empty cluster and the choice is uniform.
    """

    name = "s2l"
    needs = frozenset({Need.TRAJECTORIES})
    parameters = frozenset(
        {"num_clusters", "normalise", "stratify_by", "include_initial", "kmeans_fit_rows", "kmeans_iterations",
         "least_cluster_size"}
    )
    is_nested = False
    takes_seed = True
    title = "S2L"

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return an even sample over clusters."""
        assert pool.losses_NC is not None
        losses: np.ndarray | Rows = pool.losses_NC
        if config.normalise == "ratio" and _clustered_points(pool, config).sum() < 2:
            raise InputError("selection.normalise=ratio needs at least 2 trajectory points")
        resolve_num_clusters(config.num_clusters, len(pool))  # refuses more clusters than examples
        prepare = partial(prepare_trajectories, points_C=_clustered_points(pool, config), normalise=config.normalise)
        if config.stratify_by is None:
            return _sample_clusters(losses, None, prepare, budget, config, rng, self.take)
        strata = sources_of(pool, "selection.stratify_by=source")
        quotas = water_filling(np.array([len(members) for _, members in strata]), budget)
        parts = []
        for index in np.argsort([len(members) for _, members in strata], kind="stable"):
            source, members = strata[index]
            part = _sample_clusters(losses[members], source, prepare, int(quotas[index]), config, rng, self.take)
            parts.append(placed(part, members, len(pool)))
        return joined(parts)

    def take(
        self, members: np.ndarray, quota: int, distances: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return so many members of a cluster, given their distances to its centroid."""
        return rng.choice(members, quota, replace=False)


def prepare_trajectories(losses_NC: np.ndarray, points_C: np.ndarray, normalise: str) -> np.ndarray:
    """Return the rows to cluster: the losses at the points marked True, normalised, each row by itself."""
    rows_NC = losses_NC if points_C.all() else losses_NC[:, points_C]
    if normalise == "zscore":
        spread = rows_NC.std(axis=1, keepdims=True)
        return (rows_NC - rows_NC.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    if normalise == "ratio":
        tiny = np.float32(1e-6)  # a loss of 0 (fully learned) stays finite
        return np.maximum(rows_NC[:, 1:], tiny) / np.maximum(rows_NC[:, :-1], tiny)
    return rows_NC


def _clustered_points(pool: Pool, config: SelectionConfig) -> np.ndarray:
    assert pool.losses_NC is not None
    return clustered_points(pool.fractions_C, pool.losses_NC.shape[1], config.include_initial)


def clustered_points(fractions_C: np.ndarray | None, num_points: int, include_initial: bool) -> np.ndarray:
    """Return which points are clustered on, (C,) bool: all recorded, without point 0 unless asked for."""
    if fractions_C is None or include_initial:
        return np.ones(num_points, dtype=bool)
    return fractions_C > 0


def _sample_clusters(
    losses: np.ndarray | Rows, source: str | None, prepare: Callable[[np.ndarray], np.ndarray], budget: int,
    config: SelectionConfig, rng: np.random.Generator, take: Take,
) -> Choice:
    """Cluster the trajectories and take evenly of the clusters, smallest first."""
    asked = config.num_clusters if config.num_clusters == "auto" else min(config.num_clusters, len(losses))
    found = cluster_rows(
        losses, resolve_num_clusters(asked, len(losses)), rng,
        fit_rows=config.kmeans_fit_rows, iterations=config.kmeans_iterations, prepare=prepare,
    )

    def members(rows: np.ndarray, quota: int) -> np.ndarray:
        return take(rows, quota, found.distances_N[rows], rng)

    choice = taken_evenly(losses, found.labels_N, len(found.centroids_KC), budget, members, config.least_cluster_size)
    facts = [{"source": source, **fact, "centroid": rounded(found.centroids_KC[fact["cluster"]])}
             for fact in choice.facts["clusters"]]
    distances = found.distances_N[choice.positions_B]
    return replace(choice, scores_B=-distances, distances_B=distances, facts={"clusters": facts})


SELECTOR = S2L()
