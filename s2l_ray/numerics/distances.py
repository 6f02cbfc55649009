"""Euclidean distances between unit-length rows, where equal rows are at distance 0 in spite of rounding."""

import numpy as np

SAME = np.float32(1e-6)
"""Squared distances below this one (a distance of 0.001) are rounding of float32: the rows count as equal."""


def squared_distances(rows_ND: np.ndarray, others_MD: np.ndarray) -> np.ndarray:
    """Return the squared distances between unit-length rows, 2 - 2 cosine, shape (N, M)."""
    squared_NM = rows_ND @ others_MD.T
    squared_NM *= -2
    squared_NM += 2
    squared_NM[squared_NM < SAME] = 0
    return squared_NM
