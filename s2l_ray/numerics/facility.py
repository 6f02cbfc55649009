"""Lazy greedy maximisation of the facility-location function over a graph of nearest neighbours."""

import heapq
from dataclasses import dataclass

import numpy as np

from s2l_ray.numerics.neighbours import Neighbours


@dataclass(frozen=True)
class Facilities:
    """Positions by rank, (B,), and what each added to f, (B,), non-increasing."""

    positions_B: np.ndarray
    gains_B: np.ndarray


def lazy_greedy(neighbours: Neighbours, budget: int) -> Facilities:
    """Add again and again the row with the largest gain in f(S) = sum_i max_{j in S} s_ij (ties: lowest position).

    s_ij = (1 + cosine) / 2 where j is one of i's nearest neighbours and 0 elsewhere. f is monotone and submodular, so
    f(S) is at least (1 - 1/e) of the best possible (Nemhauser et al. 1978), and a gain computed earlier bounds the gain
    now: only the top of a heap is computed again (Minoux 1978). Same result as computing all gains each time. Gains are
    summed in one fixed order, so the bound holds for the rounded sums too. Memory O(N x neighbours).

    Parameters
    ----------
    neighbours : Neighbours
        Positions and cosines of shape (N, K); each row is its own neighbour.
    budget : int
        1 <= budget <= N.
    """
    num_rows, width = neighbours.positions_NK.shape
    order = np.argsort(neighbours.positions_NK, axis=None, kind="stable")
    served = (order // width).astype(np.int32)  # grouped by j: the rows i that have j as a neighbour
    similarities = (1 + neighbours.cosines_NK.reshape(-1)[order]) / 2
    ends = np.cumsum(np.bincount(neighbours.positions_NK.reshape(-1), minlength=num_rows))
    starts = np.append(0, ends[:-1])
    del order
    best_N = np.zeros(num_rows, dtype=similarities.dtype)

    def gain(row: int) -> float:
        own = slice(starts[row], ends[row])
        return float(np.maximum(similarities[own] - best_N[served[own]], 0).sum(dtype=np.float64))

    heap = [(-gain(row), row) for row in range(num_rows)]
    heapq.heapify(heap)
    positions: list[int] = []
    gains: list[float] = []
    while len(positions) < budget:
        row = heapq.heappop(heap)[1]
        fresh = (-gain(row), row)
        if heap and fresh > heap[0]:
            heapq.heappush(heap, fresh)
            continue
        own = slice(starts[row], ends[row])
        best_N[served[own]] = np.maximum(best_N[served[own]], similarities[own])
        positions.append(row)
        gains.append(-fresh[0])
    return Facilities(np.array(positions), np.array(gains))
