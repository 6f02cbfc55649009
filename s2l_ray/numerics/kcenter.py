"""Greedy k-center: centres such that no row is far from all of them."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from s2l_ray.numerics.distances import squared_distances
from s2l_ray.tables.chunked_table import in_order

_BLOCK_ROWS = 8192
_CANDIDATES = 256
_FARTHEST = np.float32(4)  # squared distance of opposite unit vectors
_TAKEN = np.float32(-1)


@dataclass(frozen=True)
class Centres:
    """Positions of the centres by rank, (B,); each one's distance to the nearest earlier centre, (B,); the radius."""

    positions_B: np.ndarray
    distances_B: np.ndarray
    radius: float
    """Largest distance of a row that may be a centre to its nearest centre."""


def greedy_k_center(
    rows_ND: np.ndarray, budget: int, rng: np.random.Generator, last_resort: np.ndarray | None = None
) -> Centres:
    """Choose a first centre at random, then again and again the row farthest from all centres (ties: lowest position).

    s_t = argmax_i min_{j < t} ||x_i - s_j||  (Gonzalez 1985). The radius is at most twice the smallest one possible.
    The order does not depend on the budget. Cost O(B N D) at worst, memory O(N) beside the rows.

    Exact with blocks: the rows that are farther than the 257th farthest are compared with one another, and centres are
    taken among them as long as the farthest of them is still farther than that one; distances only shrink, so it is the
    farthest of all. All rows are then compared with these centres in one matrix product in place of one for each.

    Parameters
    ----------
    rows_ND : ndarray of shape (N, D)
        Unit-length rows.
    budget : int
        1 <= budget <= N.
    last_resort : ndarray of positions, optional
        Rows that are no candidates; where the budget exceeds the others they follow, in this order, with distance 0.
    """
    last = np.empty(0, dtype=np.int64) if last_resort is None else last_resort
    gaps_N = np.full(len(rows_ND), _FARTHEST, dtype=np.float32)  # squared distance to the nearest centre
    gaps_N[last] = _TAKEN
    candidates = np.flatnonzero(gaps_N >= 0)
    count = min(budget, len(candidates))
    positions, distances = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    with threadpool_limits(limits=1):
        while len(positions) < count:
            if len(positions) == 0:
                picked, at = rng.choice(candidates, 1), np.array([_FARTHEST])
            else:
                picked, at = _next_centres(rows_ND, gaps_N, count - len(positions))
            positions, distances = np.append(positions, picked), np.append(distances, np.sqrt(at))
            _cover(gaps_N, rows_ND, picked)
    radius = float(np.sqrt(max(gaps_N.max(), 0)))
    rest = last[: budget - count]
    return Centres(np.append(positions, rest), np.append(distances, np.zeros(len(rest), np.float32)), radius)


def _next_centres(rows_ND: np.ndarray, gaps_N: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the next centres, between 1 and `count`, and their squared distances to those before."""
    farthest = int(gaps_N.argmax())
    if gaps_N[farthest] == 0:  # only copies of centres are left
        copies = np.flatnonzero(gaps_N == 0)[:count]
        return copies, np.zeros(len(copies), dtype=np.float32)
    outside = _TAKEN
    if len(gaps_N) > _CANDIDATES:
        outside = np.partition(gaps_N, len(gaps_N) - 1 - _CANDIDATES)[len(gaps_N) - 1 - _CANDIDATES]
    inside = np.flatnonzero(gaps_N > outside)
    if len(inside) == 0:
        return np.array([farthest]), gaps_N[[farthest]]
    gaps_M = gaps_N[inside]
    between_MM = squared_distances(rows_ND[inside], rows_ND[inside])
    picked: list[int] = []
    at: list[np.float32] = []
    while len(picked) < count and gaps_M.max() > max(outside, 0):
        best = int(gaps_M.argmax())
        picked.append(best)
        at.append(gaps_M[best])
        np.minimum(gaps_M, between_MM[best], out=gaps_M)
        gaps_M[best] = _TAKEN
    return inside[picked], np.array(at, dtype=np.float32)


def _cover(gaps_N: np.ndarray, rows_ND: np.ndarray, picked: np.ndarray) -> None:
    """Lower the gaps of all rows to the new centres."""
    centres_MD = rows_ND[picked]

    def lower(start: int) -> None:
        gaps = gaps_N[start : start + _BLOCK_ROWS]
        np.minimum(gaps, squared_distances(rows_ND[start : start + _BLOCK_ROWS], centres_MD).min(axis=1), out=gaps)

    deque(in_order(lower, range(0, len(rows_ND), _BLOCK_ROWS)), maxlen=0)
    gaps_N[picked] = _TAKEN
