"""How crowded the space around each row is: a kernel sum, exact or by hashing, and sampling by its inverse."""

import functools
import math

import numpy as np
from threadpoolctl import threadpool_limits

from s2l_ray.numerics.distances import squared_distances
from s2l_ray.numerics.hashing import mixed
from s2l_ray.tables.chunked_table import in_order

EXACT_ROWS = 20_000
"""Pools up to this size are summed pair by pair."""
HASHES = 4
"""Hashes that must agree at once: the kernel's power P."""
REPETITIONS = 512
"""Independent hash tables R of the sketch; its relative error falls as 1 / sqrt(R)."""

_BUCKETS = 2**20
_HASHED_AT_ONCE = 16  # tables
_HASHED_ROWS = 2**12
_BLOCK_VALUES = 2**22
_TABLE_MOST, _TABLE_STEPS = 32.0, 2**18
_MEDIAN_ROWS = 1000


def collision_probability(widths: np.ndarray) -> np.ndarray:
    """Return the chance that one hash floor((a.x + b) / w), a ~ N(0, I), b ~ U[0, w), is equal for two rows.

    p(u) = erf(1 / (u sqrt 2)) - u sqrt(2 / pi) (1 - exp(-1 / (2 u^2))), u = distance / w
    (Datar et al. 2004, section 3.2, for the 2-stable distribution). p(0) = 1; p(1) = 0.369.
    """
    u = np.maximum(np.asarray(widths, dtype=np.float64), 1e-9)
    return np.vectorize(math.erf)(1 / (u * math.sqrt(2))) + u * math.sqrt(2 / math.pi) * np.expm1(-0.5 / u**2)


def kernel_sums(rows_ND: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return sum_x k(x, y) for each row y, itself included, with k(x, y) = p(||x - y|| / bandwidth)^4; O(N^2 D).

    The kernel is the hash's own collision probability (`collision_probability`), read from a table with a step of
    1e-4 widths; it counts pairs beyond 32 widths as 32. Memory: blocks of 2^22 values.

    Parameters
    ----------
    rows_ND : ndarray of shape (N, D)
        Unit-length rows.

    Returns
    -------
    ndarray of shape (N,), float64, at least 1
    """
    table = _kernel_table()
    to_step = np.float32(_TABLE_STEPS / _TABLE_MOST / bandwidth)
    sums_N = np.zeros(len(rows_ND))
    step = max(1, _BLOCK_VALUES // len(rows_ND))
    with threadpool_limits(limits=1):
        for start in range(0, len(rows_ND), step):  # the block's rows against themselves and all later ones
            block = rows_ND[start : start + step]
            distances_BM = np.sqrt(squared_distances(block, rows_ND[start:]))
            kernel_BM = table[np.minimum(distances_BM * to_step + 0.5, _TABLE_STEPS).astype(np.int32)]
            sums_N[start : start + step] += kernel_BM.sum(axis=1, dtype=np.float64)
            sums_N[start + step :] += kernel_BM[:, step:].sum(axis=0, dtype=np.float64)
    return sums_N


@functools.cache
def _kernel_table() -> np.ndarray:
    return (collision_probability(np.linspace(0, _TABLE_MOST, _TABLE_STEPS + 1)) ** HASHES).astype(np.float32)


def sketched_kernel_sums(
    rows_ND: np.ndarray, bandwidth: float, rng: np.random.Generator, repetitions: int = REPETITIONS
) -> np.ndarray:
    """Return an unbiased estimate of `kernel_sums` in O(N D): the mean count of a row's bucket over R hash tables.

    A table (RACE, Coleman and Shrivastava 2020) hashes rows by P = 4 joint 2-stable hashes into 2^20 buckets and counts
    them; two rows share a bucket with probability k(x, y), and by rehashing with 1 / 2^20 more, which is subtracted.
    The rows are at hand to be looked up at once, so no table is kept. An estimate is at least 1: a row shares its own
    bucket. Memory: 128 bytes a row, for the buckets of 32 tables.
    """
    num_rows, width = rows_ND.shape

    def draw(tables: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        directions_DH = rng.standard_normal((width, tables * HASHES), dtype=np.float32) / np.float32(bandwidth)
        odd_H = rng.integers(2**63, size=tables * HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        return directions_DH, rng.random(tables * HASHES, dtype=np.float32), odd_H

    draws = (draw(min(_HASHED_AT_ONCE, repetitions - start)) for start in range(0, repetitions, _HASHED_AT_ONCE))
    counts_N = np.zeros(num_rows, dtype=np.int64)
    with threadpool_limits(limits=1):
        for counts in in_order(lambda drawn: _bucket_counts(rows_ND, *drawn), draws):
            counts_N += counts
    return np.maximum((counts_N / repetitions - num_rows / _BUCKETS) / (1 - 1 / _BUCKETS), 1)


def _bucket_counts(
    rows_ND: np.ndarray, directions_DH: np.ndarray, offsets_H: np.ndarray, odd_H: np.ndarray
) -> np.ndarray:
    """Return the size of each row's bucket, summed over some hash tables, (N,) int64."""
    tables = len(odd_H) // HASHES
    buckets_TN = np.empty((tables, len(rows_ND)), dtype=np.int32)
    for start in range(0, len(rows_ND), _HASHED_ROWS):
        hashes_BH = rows_ND[start : start + _HASHED_ROWS] @ directions_DH
        hashes_BH += offsets_H
        np.floor(hashes_BH, out=hashes_BH)
        mixed_BT = (hashes_BH.astype(np.int64).view(np.uint64) * odd_H).reshape(-1, tables, HASHES).sum(axis=2)
        buckets_TN[:, start : start + _HASHED_ROWS] = (mixed(mixed_BT) & np.uint64(_BUCKETS - 1)).T
    counts_N = np.zeros(len(rows_ND), dtype=np.int64)
    for buckets_N in buckets_TN:
        counts_N += np.bincount(buckets_N, minlength=_BUCKETS)[buckets_N]
    return counts_N


def median_distance(rows_ND: np.ndarray, rng: np.random.Generator) -> float:
    """Return the median distance between different rows of a seeded sample of 1000; 1 where all rows are equal."""
    chosen = np.sort(rng.choice(len(rows_ND), min(_MEDIAN_ROWS, len(rows_ND)), replace=False))
    with threadpool_limits(limits=1):
        squared = squared_distances(rows_ND[chosen], rows_ND[chosen])
    apart = squared[np.triu_indices(len(chosen), 1)]
    apart = apart[apart > 0]
    return float(np.sqrt(np.median(apart))) if len(apart) else 1.0


def sample_by_weight(weights_N: np.ndarray, budget: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `budget` positions one after another without replacement, each with probability ~ weight of what is left.

    Gumbel top-k: the order of log w_i + G_i, descending, is such a sequence exactly (Efraimidis and Spirakis 2006), so
    the first b positions are the draw at budget b.
    """
    keys_N = np.log(weights_N) + rng.gumbel(size=len(weights_N))
    return np.argsort(-keys_N, kind="stable")[:budget]
