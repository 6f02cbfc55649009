"""S2L: cluster the loss trajectories of a small proxy and sample evenly over the clusters.

Yang et al., "SmallToLarge (S2L): Scalable Data Selection for Fine-tuning Large Language Models by Summarizing
Training Trajectories of Small Models", NeurIPS 2024, arXiv 2403.07384, Algorithm 1.
"""

from typing import ClassVar

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.numerics.allocation import water_filling
from s2l_ray.numerics.kmeans import cluster_rows, resolve_num_clusters
from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors.per import sources_of
from s2l_ray.selectors.pool import Choice, Pool


class S2L:
    """Examples with like trajectories have like gradients, so a few of each cluster stand for the rest.

    k-means with Euclidean distance on the raw losses; clusters by ascending size; cluster k gives
    R_k = (B - |S|) / (K - k + 1) of its members, uniformly drawn, or all it has. Ranks follow the visits: the
    smallest cluster's members first. Not nested: another budget draws other members.

    With `stratify_by` each source first gets its share of the budget by the same rule and is clustered alone, as
    the authors' code does (Algorithm 1 clusters the whole pool); a source of fewer than K examples then makes one
    cluster of each. Our choice where the paper is silent: the trajectories exclude the untouched model unless
    `include_initial`; `normalise` (zscore, ratio) is our addition. A point's score is minus its distance to the
    centroid. The findings give each cluster's centroid (as clustered) and its members' mean losses in nats at all
    recorded points. If all trajectories are equal there is one non-empty cluster and the choice is uniform.
    """

    name: ClassVar[str] = "s2l"
    requires: ClassVar[frozenset[str]] = frozenset({"trajectories"})
    parameters: ClassVar[frozenset[str]] = frozenset(
        {"num_clusters", "normalise", "stratify_by", "include_initial", "kmeans_fit_rows", "kmeans_iterations"}
    )
    is_nested: ClassVar[bool] = False

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return an even sample over clusters."""
        assert pool.losses_NC is not None
        rows_NC = prepare_trajectories(pool, config)
        resolve_num_clusters(config.num_clusters, len(pool))  # refuses more clusters than examples
        strata = _strata(pool, config)
        quotas = water_filling(np.array([len(members) for _, members in strata]), budget)
        parts, facts, first_cluster = [], [], 0
        for index in np.argsort([len(members) for _, members in strata], kind="stable"):
            source, members = strata[index]
            part = _sample_clusters(rows_NC[members], pool.losses_NC[members], int(quotas[index]), config, rng)
            assert part.clusters_B is not None and part.scores_B is not None
            parts.append((members[part.positions_B], part.clusters_B + first_cluster, part.scores_B))
            facts += [{"source": source, **c, "cluster": c["cluster"] + first_cluster} for c in part.facts["clusters"]]
            first_cluster += len(part.facts["clusters"])
        positions, clusters, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Choice(positions, clusters, scores, {"clusters": facts})


def prepare_trajectories(pool: Pool, config: SelectionConfig) -> np.ndarray:
    """Return the (N, C) rows to cluster: the recorded losses, without point 0 unless asked for, normalised."""
    assert pool.losses_NC is not None
    rows_NC = pool.losses_NC
    if pool.fractions_C is not None and not config.include_initial:
        rows_NC = rows_NC[:, pool.fractions_C > 0]
    if config.normalise == "zscore":
        spread = rows_NC.std(axis=1, keepdims=True)
        return (rows_NC - rows_NC.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    if config.normalise == "ratio":
        if rows_NC.shape[1] < 2:
            raise InputError("selection.normalise=ratio needs at least 2 trajectory points")
        tiny = np.float32(1e-6)  # a loss of 0 (fully learned) stays finite
        return np.maximum(rows_NC[:, 1:], tiny) / np.maximum(rows_NC[:, :-1], tiny)
    return rows_NC


def _strata(pool: Pool, config: SelectionConfig) -> list[tuple[str | None, np.ndarray]]:
    """Return (source, positions) of each stratum; one for the whole pool without stratification."""
    if config.stratify_by is None:
        return [(None, np.arange(len(pool)))]
    return [*sources_of(pool, "selection.stratify_by=source")]


def _sample_clusters(
    rows_NC: np.ndarray, losses_NC: np.ndarray, budget: int, config: SelectionConfig, rng: np.random.Generator
) -> Choice:
    """Cluster the rows and draw evenly over the clusters, smallest first."""
    asked = config.num_clusters if config.num_clusters == "auto" else min(config.num_clusters, len(rows_NC))
    found = cluster_rows(
        rows_NC, resolve_num_clusters(asked, len(rows_NC)), rng,
        fit_rows=config.kmeans_fit_rows, iterations=config.kmeans_iterations,
    )
    sizes_K = np.bincount(found.labels_N, minlength=len(found.centroids_KC))
    quotas_K = water_filling(sizes_K, budget)
    members = np.split(np.argsort(found.labels_N, kind="stable"), np.cumsum(sizes_K)[:-1])
    drawn, facts = [], []
    for cluster in np.argsort(sizes_K, kind="stable"):
        rows = members[cluster]
        drawn.append(rng.choice(rows, int(quotas_K[cluster]), replace=False))
        facts.append({
            "cluster": int(cluster), "size": len(rows), "quota": int(quotas_K[cluster]),
            "centroid": _rounded(found.centroids_KC[cluster]),
            "mean_losses": _rounded(losses_NC[rows].mean(axis=0)) if len(rows) else None,
        })
    positions = np.concatenate(drawn)
    return Choice(positions, found.labels_N[positions], -found.distances_N[positions], {"clusters": facts})


def _rounded(values_C: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values_C]
