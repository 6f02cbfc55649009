"""How a budget is shared out over groups of unequal size."""

import numpy as np

from s2l_ray.errors import InputError


def water_filling(sizes_K: np.ndarray, budget: int) -> np.ndarray:
    """Share a budget evenly over groups; a group smaller than its share gives all it has.

    Groups are visited by ascending size (equal sizes by index). Group k of K gets
    R_k = floor((B - |S|) / (K - k + 1)) where |S| has been given out so far, or its size if that is less
    (S2L, arXiv 2403.07384, Algorithm 1). Since what small groups leave flows to larger ones, the quotas sum to
    the budget exactly; they equal min(size, tau) for one water level tau, up to rounding. With B < K the
    smallest K - B groups get nothing.

    Parameters
    ----------
    sizes_K : ndarray of shape (K,)
        Members of each group, 0 allowed.
    budget : int
        0 <= budget <= sizes_K.sum().

    Returns
    -------
    ndarray of shape (K,), int64
        The quota of each group, in the groups' own order.
    """
    sizes = np.asarray(sizes_K, dtype=np.int64)
    if budget < 0 or budget > sizes.sum():
        raise InputError(f"budget={budget} must be between 0 and the number of candidates, {sizes.sum()}")
    quotas = np.zeros(len(sizes), dtype=np.int64)
    left = budget
    for visited, group in enumerate(np.argsort(sizes, kind="stable")):
        quotas[group] = min(int(sizes[group]), left // (len(sizes) - visited))
        left -= int(quotas[group])
    assert left == 0
    return quotas
