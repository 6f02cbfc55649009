"""k-means fitted on a bounded, seeded sample of the rows, with all rows then assigned in blocks."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from s2l_ray.errors import InputError

_BLOCK_ROWS = 1_000_000
_MOST_AUTO_CLUSTERS = 1000


@dataclass(frozen=True)
class Clustering:
    """Cluster of each row, shape (N,) int32, the centroids, shape (K, C), and each row's distance to its own."""

    labels_N: np.ndarray
    centroids_KC: np.ndarray
    distances_N: np.ndarray


def resolve_num_clusters(num_clusters: int | Literal["auto"], num_rows: int) -> int:
    """Return K; auto is sqrt(N / 2), rounded, from 1 to 1000 (a rule of thumb, not of the papers).

    Raises
    ------
    InputError
        More clusters are asked for than there are rows.
    """
    if num_clusters == "auto":
        return min(max(1, round((num_rows / 2) ** 0.5)), _MOST_AUTO_CLUSTERS)
    if num_clusters > num_rows:
        raise InputError(
            f"selection.num_clusters={num_clusters} exceeds the {num_rows} examples: lower it, or set it to auto"
        )
    return num_clusters


def cluster_rows(
    rows_NC: np.ndarray, num_clusters: int, rng: np.random.Generator, *, fit_rows: int, iterations: int
) -> Clustering:
    """Cluster rows by Euclidean distance (Lloyd's algorithm from k-means++ centres).

    Parameters
    ----------
    rows_NC : ndarray of shape (N, C)
    num_clusters : int
        1 <= num_clusters <= N. Where fewer rows are distinct, some clusters stay empty.
    fit_rows : int
        Rows the centroids are fitted on, drawn without replacement; at least `num_clusters` are taken.

    Raises
    ------
    InputError
        `num_clusters` exceeds the number of rows.
    """
    num_rows = len(rows_NC)
    if not 1 <= num_clusters <= num_rows:
        raise InputError(f"num_clusters={num_clusters} must be between 1 and the number of examples, {num_rows}")
    fitted = np.ascontiguousarray(_sample(rows_NC, max(fit_rows, num_clusters), rng), dtype=np.float32)
    state = int(rng.integers(2**31))
    model = KMeans(num_clusters, n_init=1, max_iter=iterations, algorithm="lloyd", random_state=state)
    # One thread: with more, partial sums are added in another order and the last bits depend on the machine.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: documented above
        model.fit(fitted)
    centroids_KC = model.cluster_centers_.astype(np.float32)
    labels_N = np.empty(num_rows, dtype=np.int32)
    distances_N = np.empty(num_rows, dtype=np.float32)
    for start in range(0, num_rows, _BLOCK_ROWS):
        block = np.ascontiguousarray(rows_NC[start : start + _BLOCK_ROWS], dtype=np.float32)
        labels = model.predict(block)
        labels_N[start : start + len(block)] = labels
        distances_N[start : start + len(block)] = np.linalg.norm(block - centroids_KC[labels], axis=1)
    return Clustering(labels_N, centroids_KC, distances_N)


def _sample(rows_NC: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    if len(rows_NC) <= count:
        return rows_NC
    return rows_NC[np.sort(rng.choice(len(rows_NC), count, replace=False))]
