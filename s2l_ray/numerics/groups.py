"""Rows by the group that each is in."""

import numpy as np

from s2l_ray.numerics.rows import ArrayRows, Positions, Rows

_CHUNK = 2**20
_CACHED_ROWS = 2**13


def group_members(labels_N: np.ndarray, num_groups: int) -> list[np.ndarray]:
    """Return the ascending positions of each group's rows; sorted in place, 8 bytes a row.

    Parameters
    ----------
    labels_N : ndarray of shape (N,)
        Group of each row, 0 to `num_groups` - 1.
    """
    num_rows = len(labels_N)
    keys_N = np.empty(num_rows, dtype=np.int64)
    for start in range(0, num_rows, _CHUNK):
        own = labels_N[start : start + _CHUNK].astype(np.int64)
        keys_N[start : start + len(own)] = own * num_rows + np.arange(start, start + len(own))
    keys_N.sort()
    ends = np.searchsorted(keys_N, np.arange(1, num_groups) * num_rows)
    keys_N %= num_rows
    return np.split(keys_N, ends)


def group_means(rows: np.ndarray | Rows, labels_N: np.ndarray, num_groups: int) -> np.ndarray:
    """Return the mean row of each group, (K, C) float64; 0 for a group without rows."""
    rows = ArrayRows(rows) if isinstance(rows, np.ndarray) else rows

    def sums_CK(positions: Positions, rows_BC: np.ndarray) -> np.ndarray:
        labels_B = labels_N[positions].astype(np.intp)
        sums_CK = np.zeros((rows_BC.shape[1], num_groups))
        for start in range(0, len(rows_BC), _CACHED_ROWS):
            own = slice(start, start + _CACHED_ROWS)
            for point, column in enumerate(rows_BC[own].T.astype(np.float64)):
                sums_CK[point] += np.bincount(labels_B[own], weights=column, minlength=num_groups)
        return sums_CK

    sizes_K = np.bincount(labels_N, minlength=num_groups)
    whole_CK = np.sum([*rows.each(sums_CK)], axis=0)
    return whole_CK.T / np.maximum(sizes_K, 1)[:, None]
