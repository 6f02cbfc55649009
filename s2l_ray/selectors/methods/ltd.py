"""LTD: a core set of the clusters that belong to the task.

Chen et al., "Maybe Only 0.5% Data is Needed: A Preliminary Exploration of Low Training Data Instruction Tuning",
arXiv 2305.09246.
"""

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.numerics.allocation import largest_remainder
from s2l_ray.numerics.kcenter import greedy_k_center
from s2l_ray.numerics.kmeans import cluster_rows, resolve_num_clusters
from s2l_ray.numerics.neighbours import isolated_rows
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.tables.needs import Need


class LTD(Selector):
    """Mean-pooled unit-length embeddings, k-means on them, then greedy k-center inside the clusters of the task.

    Assumes that the task's examples lie together in embedding space. Not nested: quotas change with the budget.

    From the paper: the embeddings, k-means, a core set within. That the core set is greedy k-center stands in secondary
    sources alone, and these are our own choices: the task is named by `task_sources`, and a cluster belongs to it if it
    holds one example of such a source (none named: all clusters do); its clusters share the budget in proportion to
    their sizes; if they hold fewer examples than the budget they are taken whole, and the clusters nearest to them, by
    centroid, give the rest, nearest first; the first centre of a cluster is drawn with the seed; the `outlier_share` of
    the pool farthest from its 5 nearest neighbours is taken only where a quota exceeds all others of its cluster.
    Ranks go cluster by cluster, the smallest first. An example's score is its distance to the nearest one chosen before
    in its cluster (the first's is 2, an outlier's 0). If all embeddings are equal there is one non-empty cluster, and
    the order in it is the pool's after the first.
    """

    name = "ltd"
    needs = frozenset({Need.EMBEDDINGS})
    parameters = frozenset(
        {"num_clusters", "task_sources", "outlier_share", "kmeans_fit_rows", "kmeans_iterations"}
    )
    is_nested = False
    takes_seed = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the core sets of the task's clusters."""
        rows_ND = pool.embeddings_ND
        assert rows_ND is not None
        num_clusters = resolve_num_clusters(config.num_clusters, len(pool))
        is_task_N = _task_examples(pool, config.task_sources)
        found = cluster_rows(
            rows_ND, num_clusters, rng, fit_rows=config.kmeans_fit_rows, iterations=config.kmeans_iterations
        )
        sizes_K = np.bincount(found.labels_N, minlength=num_clusters)
        is_task_K = np.bincount(found.labels_N[is_task_N], minlength=num_clusters) > 0
        quotas_K = _quotas(sizes_K, is_task_K, found.centroids_KC, budget)
        outliers = isolated_rows(rows_ND, config.outlier_share, rng)
        isolation_N = np.full(len(pool), -1)
        isolation_N[outliers] = np.arange(len(outliers))
        positions, scores, facts = [], [], []
        for cluster in np.argsort(sizes_K, kind="stable"):
            size, quota = int(sizes_K[cluster]), int(quotas_K[cluster])
            facts.append({"cluster": int(cluster), "size": size, "quota": quota, "task": bool(is_task_K[cluster])})
            if quota == 0:
                continue
            members = np.flatnonzero(found.labels_N == cluster)
            isolated = np.argsort(isolation_N[members], kind="stable")[np.count_nonzero(isolation_N[members] < 0) :]
            centres = greedy_k_center(rows_ND[members], quota, rng, isolated)
            positions.append(members[centres.positions_B])
            scores.append(centres.distances_B)
        chosen = np.concatenate(positions)
        labels = found.labels_N[chosen]
        return Choice(
            chosen, labels, np.concatenate(scores), {"clusters": facts}, quotas_K[labels], found.distances_N[chosen]
        )


def _task_examples(pool: Pool, task_sources: list[str]) -> np.ndarray:
    """Return which examples are of the task's sources, (N,) bool; all of them where none is named."""
    if not task_sources:
        return np.ones(len(pool), dtype=bool)
    if pool.sources is None:
        raise InputError(f"selection.task_sources={task_sources} needs a column source; give one or leave it empty")
    sources_N = np.array(pool.sources.to_pylist(), dtype=object)
    known = sorted({source for source in sources_N if source is not None})
    unknown = sorted(set(task_sources) - set(known))
    if unknown:
        raise InputError(f"selection.task_sources: {unknown} are no sources of the pool; known: {', '.join(known)}")
    return np.isin(sources_N.astype(str), task_sources) & np.array([source is not None for source in sources_N])


def _quotas(sizes_K: np.ndarray, is_task_K: np.ndarray, centroids_KD: np.ndarray, budget: int) -> np.ndarray:
    """Return each cluster's share: proportional within the task, or all of it and then the nearest others."""
    task_sizes_K = np.where(is_task_K, sizes_K, 0)
    if budget <= task_sizes_K.sum():
        return largest_remainder(task_sizes_K, budget, task_sizes_K)
    quotas_K = task_sizes_K
    away_K = np.min([np.linalg.norm(centroids_KD - own, axis=1) for own in centroids_KD[is_task_K]], axis=0)
    for cluster in np.argsort(away_K, kind="stable"):
        if not is_task_K[cluster]:
            quotas_K[cluster] = min(sizes_K[cluster], budget - quotas_K.sum())
    return quotas_K


SELECTOR = LTD()
