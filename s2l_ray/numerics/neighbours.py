"""Nearest neighbours of unit-length rows, in bounded memory: exact for moderate pools, within k-means cells above."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from s2l_ray.errors import InputError
from s2l_ray.numerics.kmeans import cluster_rows
from s2l_ray.tables.chunked_table import in_order

EXACT_ROWS = 20_000
"""Pools up to this size are compared pair by pair."""
CELL_CANDIDATES = 8192
"""Above it, rows that each row is compared with."""

# That the candidates of a row come from. Of 10^5 rows 90 to 95 % of true neighbours are found, with 4 cells 75 to 84 %.
_CELLS = 16
_RECALL_ROWS = 1000
_RECALL_COLUMNS = 8192
_ROUNDING = np.float32(1e-6)

_BLOCK_VALUES = 2**23
_PIECE_ROWS = 1024
_OUTLIER_NEIGHBOURS = 5


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of each row, itself among them: positions, (N, K) int32 ascending, and cosines, (N, K)."""

    positions_NK: np.ndarray
    cosines_NK: np.ndarray
    recall: float = 1.0
    """Share of the true neighbours that are among them, measured over 1000 rows where not all pairs were compared."""


def nearest_neighbours(
    rows_ND: np.ndarray, count: int, rng: np.random.Generator, *, exact_rows: int = EXACT_ROWS,
    cell_candidates: int = CELL_CANDIDATES,
) -> Neighbours:
    """Return each row's `count` nearest rows by cosine, itself included; ties by the lowest position.

    Up to `exact_rows` rows all pairs are compared, O(N^2 D). Above, k-means cuts the rows into cells of a sixteenth of
    `cell_candidates` on average, and a row is compared with `cell_candidates` rows of its own and the nearest cells,
    O(N x cell_candidates x D): most true neighbours are found, not all (fewer, the less the rows form clusters), and
    `recall` says how many. Memory beside the answer is some blocks of 2^23 values.

    Parameters
    ----------
    rows_ND : ndarray of shape (N, D)
        Unit-length rows.
    count : int
        1 <= count <= N, and at most half of `cell_candidates` where cells are used.
    """
    num_rows = len(rows_ND)
    most = num_rows if num_rows <= exact_rows else cell_candidates // 2
    if not 1 <= count <= most:
        raise InputError(f"num_neighbours={count} must be between 1 and {most} for {num_rows} examples; set another")
    positions_NK = np.empty((num_rows, count), dtype=np.int32)
    cosines_NK = np.empty((num_rows, count), dtype=np.float32)

    def fill(group: tuple[np.ndarray, np.ndarray]) -> None:
        for block, candidates, cosines_BM in _cosines(rows_ND, *group):
            nearest_BK = _largest(cosines_BM, count)
            positions_NK[block] = candidates[nearest_BK]
            cosines_NK[block] = np.take_along_axis(cosines_BM, nearest_BK, axis=1).clip(-1, 1)

    # One thread a product, here and in the other numerics: the last bits then depend on no number of cores.
    with threadpool_limits(limits=1):
        deque(in_order(fill, _groups(rows_ND, rng, exact_rows, cell_candidates)), maxlen=0)
        if num_rows <= exact_rows:
            return Neighbours(positions_NK, cosines_NK)
        return Neighbours(positions_NK, cosines_NK, _recall(rows_ND, cosines_NK, rng))


def _recall(rows_ND: np.ndarray, cosines_NK: np.ndarray, rng: np.random.Generator) -> float:
    """Return the share of true neighbours that were found, over a sample; one that is as near as a true one counts."""
    sample = np.sort(rng.choice(len(rows_ND), min(_RECALL_ROWS, len(rows_ND)), replace=False))
    count = cosines_NK.shape[1]

    def largest(start: int) -> np.ndarray:
        cosines_SM = rows_ND[sample] @ rows_ND[start : start + _RECALL_COLUMNS].T
        return -np.partition(-cosines_SM, min(count, cosines_SM.shape[1]) - 1, axis=1)[:, :count]

    nearest_SK = np.full((len(sample), count), -np.inf, dtype=np.float32)
    for found in in_order(largest, iter(range(0, len(rows_ND), _RECALL_COLUMNS))):
        nearest_SK = -np.partition(-np.concatenate([nearest_SK, found], axis=1), count - 1, axis=1)[:, :count]
    return float((cosines_NK[sample] >= nearest_SK.min(axis=1, keepdims=True) - _ROUNDING).mean())


def _cosines(
    rows_ND: np.ndarray, queries: np.ndarray, candidates: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (some queries, all candidates, their cosines); each query is among them, with 2: before every duplicate."""
    columns_MD = rows_ND if len(candidates) == len(rows_ND) else rows_ND[candidates]
    step = max(1, _BLOCK_VALUES // len(candidates))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        cosines_BM = rows_ND[block] @ columns_MD.T
        cosines_BM[np.arange(len(block)), np.searchsorted(candidates, block)] = 2
        yield block, candidates, cosines_BM


def _groups(
    rows_ND: np.ndarray, rng: np.random.Generator, exact_rows: int, cell_candidates: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (queries, ascending candidates): every row is a query once, and among its own candidates."""
    num_rows = len(rows_ND)
    if num_rows <= exact_rows:
        yield np.arange(num_rows), np.arange(num_rows)
        return
    num_cells = max(1, _CELLS * num_rows // cell_candidates)
    cells = cluster_rows(rows_ND, num_cells, rng, fit_rows=64 * num_cells, iterations=5)
    sizes_K = np.bincount(cells.labels_N, minlength=num_cells)
    members = np.split(np.argsort(cells.labels_N, kind="stable"), np.cumsum(sizes_K)[:-1])
    for cell, own in enumerate(members):
        if len(own) > cell_candidates:  # a crowd of like rows: cut into pieces, so that no cell costs its square
            for piece in np.array_split(own, -(-len(own) // cell_candidates)):
                yield piece, piece
        elif len(own):
            away_K = np.linalg.norm(cells.centroids_KC - cells.centroids_KC[cell], axis=1)
            away_K[cell] = -1
            order = np.argsort(away_K, kind="stable")
            enough = int(np.searchsorted(np.cumsum(sizes_K[order]), cell_candidates)) + 1
            yield own, np.sort(np.concatenate([members[k] for k in order[:enough]])[:cell_candidates])


def _largest(values_BM: np.ndarray, count: int) -> np.ndarray:
    """Return the columns of each row's `count` largest values, ascending; ties by the lowest column.

    np.partition and a mask take a sixth of argpartition's time.
    """
    kth_B1 = np.partition(values_BM, values_BM.shape[1] - count, axis=1)[:, -count, None]
    kept_BM = values_BM >= kth_B1
    excess_B = kept_BM.sum(axis=1) - count
    for row in np.flatnonzero(excess_B):
        ties = np.flatnonzero(values_BM[row] == kth_B1[row])
        kept_BM[row, ties[len(ties) - excess_B[row] :]] = False
    return np.nonzero(kept_BM)[1].reshape(-1, count)


def isolated_rows(
    rows_ND: np.ndarray, share: float, rng: np.random.Generator, *, exact_rows: int = EXACT_ROWS,
    cell_candidates: int = CELL_CANDIDATES,
) -> np.ndarray:
    """Return the floor(share x N) rows farthest from their neighbours, the least isolated first.

    Isolation is the mean Euclidean distance to the 5 nearest other rows: with one, a pair of equal outliers would hide
    each other. Neighbours are looked for where `nearest_neighbours` does, so above its exact size isolation is an upper
    estimate. Since few rows are wanted, every row is first compared with some of its candidates, which bounds its
    isolation from above, and only those that may be among the most isolated are compared with all of them.
    """
    num_rows = len(rows_ND)
    num_isolated = int(share * num_rows)
    if num_isolated == 0 or num_rows == 1:
        return np.empty(0, dtype=np.int64)
    isolation_N = np.full(num_rows, np.inf, dtype=np.float32)
    is_open_N = np.ones(num_rows, dtype=bool)  # only bounded yet
    count = min(_OUTLIER_NEIGHBOURS + 1, num_rows)

    def compare(group: tuple[np.ndarray, np.ndarray]) -> None:
        for block, candidates, cosines_BM in _cosines(rows_ND, *group):
            nearest_BK = np.partition(cosines_BM, len(candidates) - count, axis=1)[:, -count:]
            isolation_N[block] = np.sort(np.sqrt(2 - 2 * nearest_BK.clip(-1, 1)), axis=1).sum(axis=1)

    with threadpool_limits(limits=1):
        groups = list(_groups(rows_ND, rng, exact_rows, cell_candidates))
        pieces = [piece for queries, _ in groups for piece in np.array_split(queries, -(-len(queries) // _PIECE_ROWS))]
        deque(in_order(compare, ((piece, piece) for piece in pieces if len(piece) >= count)), maxlen=0)
        reach = num_isolated
        while True:
            order = np.argsort(isolation_N, kind="stable")
            if not is_open_N[order[num_rows - num_isolated :]].any():
                return order[num_rows - num_isolated :]
            reach = min(2 * reach, num_rows)
            chosen_N = np.zeros(num_rows, dtype=bool)
            chosen_N[order[num_rows - reach :]] = True
            chosen_N &= is_open_N
            wanted = ((queries[chosen_N[queries]], candidates) for queries, candidates in groups)
            deque(in_order(compare, (group for group in wanted if len(group[0]))), maxlen=0)
            is_open_N &= ~chosen_N
