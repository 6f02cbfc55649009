"""k-means fitted on a bounded, seeded sample of the rows, with all rows then assigned in blocks."""

import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from s2l_ray.errors import InputError
from s2l_ray.numerics.rows import ArrayRows, Positions, Rows

_BLOCK_VALUES = 2**18  # similarities of a block with all centroids: 1 MB stays in the processor's cache
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
    rows: np.ndarray | Rows, num_clusters: int, rng: np.random.Generator, *, fit_rows: int, iterations: int,
    prepare: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Clustering:
    """Cluster rows by Euclidean distance (Lloyd's algorithm from k-means++ centres).

    The result depends on the rows and their positions, not on how they are read: a row's cluster and distance are
    the same in any block, beside any others, on any number of threads.

    Parameters
    ----------
    rows : ndarray of shape (N, C), or Rows
    num_clusters : int
        1 <= num_clusters <= N. Where fewer rows are distinct, some clusters stay empty.
    fit_rows : int
        Rows the centroids are fitted on, drawn without replacement; at least `num_clusters` are taken.
    prepare
        What is done to each row before.

    Raises
    ------
    InputError
        `num_clusters` exceeds the number of rows.
    """
    rows = ArrayRows(rows) if isinstance(rows, np.ndarray) else rows
    if not 1 <= num_clusters <= len(rows):
        raise InputError(f"num_clusters={num_clusters} must be between 1 and the number of examples, {len(rows)}")
    count = min(max(fit_rows, num_clusters), len(rows))
    sample = np.arange(len(rows)) if count == len(rows) else np.sort(rng.choice(len(rows), count, replace=False))
    import sklearn.cluster  # noqa: F401  heavy; here, since the limit below reaches only what is loaded

    labels_N = np.empty(len(rows), dtype=np.int32)
    distances_N = np.empty(len(rows), dtype=np.float32)
    # One thread in each product: with more, partial sums are added in another order and the last bits differ.
    with threadpool_limits(limits=1):
        centroids_KC = _fit(prepare(rows[sample]), num_clusters, int(rng.integers(2**31)), iterations)

        def assign(positions: Positions, block_BC: np.ndarray) -> None:
            labels_N[positions], distances_N[positions] = nearest_centroids(prepare(block_BC), centroids_KC)

        deque(rows.each(assign), maxlen=0)
    return Clustering(labels_N, centroids_KC, distances_N)


def _fit(rows_MC: np.ndarray, num_clusters: int, seed: int, iterations: int) -> np.ndarray:
    """Return the centroids, (K, C) float32."""
    from sklearn.cluster import KMeans  # heavy, as the next
    from sklearn.exceptions import ConvergenceWarning

    model = KMeans(num_clusters, n_init=1, max_iter=iterations, algorithm="lloyd", random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: documented above
        model.fit(np.ascontiguousarray(rows_MC, dtype=np.float32))
    return model.cluster_centers_.astype(np.float32)


def nearest_centroids(rows_NC: np.ndarray, centroids_KC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's nearest centroid (of equally near ones the first), and its distance to it, float32.

    |x - c|^2 / 2 = |x|^2 / 2 - x.c + |c|^2 / 2, and the first term is no matter: one matrix product ranks all
    centroids. It rounds, and how depends on the block. A row whose two best are nearer to each other than rounding can
    bring them is settled by differences in double precision, so that no label depends on the rows beside it.
    """
    num_clusters, width = centroids_KC.shape
    half_K = (centroids_KC.astype(np.float64) ** 2).sum(axis=1) / 2
    factors_CK = np.vstack([-centroids_KC.T, half_K[None]]).astype(np.float32)
    # A sum of n products in float32 is off by at most n u sum |x||c|, u = 2^-24 (Higham 2002, section 3.1).
    unit, largest = (width + 2) * 2.0**-24, float(np.sqrt(2 * half_K.max()))
    labels_N = np.empty(len(rows_NC), dtype=np.int32)
    distances_N = np.empty(len(rows_NC), dtype=np.float32)
    step = max(1, _BLOCK_VALUES // num_clusters)
    for start in range(0, len(rows_NC), step):
        block_BC = np.asarray(rows_NC[start : start + step], dtype=np.float32)
        ranks = np.arange(len(block_BC))
        away_BK = np.column_stack([block_BC, np.ones(len(block_BC), np.float32)]) @ factors_CK
        labels_B = away_BK.argmin(axis=1)
        length_B = np.sqrt(np.einsum("bc,bc->b", block_BC, block_BC))
        near_B = away_BK[ranks, labels_B] + 2 * unit * largest * (length_B + largest)
        away_BK[ranks, labels_B] = np.inf
        unsure = np.flatnonzero(away_BK.min(axis=1) <= near_B)
        away_BK[ranks, labels_B] = -np.inf
        rivals_UK = away_BK[unsure] <= near_B[unsure, None]
        labels_B[unsure] = _exact_nearest(block_BC[unsure], centroids_KC, rivals_UK)
        labels_N[start : start + step] = labels_B
        distances_N[start : start + step] = np.linalg.norm(block_BC - centroids_KC[labels_B], axis=1)
    return labels_N, distances_N


def _exact_nearest(rows_UC: np.ndarray, centroids_KC: np.ndarray, rivals_UK: np.ndarray) -> np.ndarray:
    """Return which of each row's rivals is the nearest in double precision, the first of equals."""
    rows, rivals = np.nonzero(rivals_UK)
    apart = rows_UC[rows].astype(np.float64) - centroids_KC[rivals]
    order = np.lexsort(((apart**2).sum(axis=1), rows))  # stable: equal ones stay by number
    return rivals[order][np.flatnonzero(np.diff(rows[order], prepend=-1))]
