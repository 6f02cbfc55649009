"""Order and ranks of many single-precision numbers."""

import numpy as np

_SIGN = np.uint32(2**31)


def ascending_order(values_N: np.ndarray) -> np.ndarray:
    """Return the positions of float32 values in ascending order, equal ones by position, (N,) int64.

    Sorted in place are the values' bits, in an order of their own that is the numbers', with the position behind them:
    a tenth of the time of a stable argsort.
    """
    assert values_N.dtype == np.float32 and len(values_N) < 2**32, (values_N.dtype, len(values_N))
    bits_N = (values_N + np.float32(0)).view(np.uint32)  # -0 becomes 0, which it equals
    bits_N = np.where(bits_N & _SIGN, ~bits_N, bits_N | _SIGN)
    keys_N = bits_N.astype(np.uint64) << np.uint64(32) | np.arange(len(values_N), dtype=np.uint64)
    keys_N.sort()
    keys_N &= np.uint64(2**32 - 1)
    return keys_N.view(np.int64)


def mean_ranks(values_N: np.ndarray) -> np.ndarray:
    """Return the rank of each float32 value from 0, equal ones sharing the mean of their ranks, (N,) float64."""
    order = ascending_order(values_N)
    sorted_N = values_N[order]
    starts = np.flatnonzero(np.append(True, sorted_N[1:] != sorted_N[:-1]))
    sizes = np.diff(np.append(starts, len(order)))
    ranks_N = np.empty(len(order))
    ranks_N[order] = np.repeat(starts + (sizes - 1) / 2, sizes)
    return ranks_N
