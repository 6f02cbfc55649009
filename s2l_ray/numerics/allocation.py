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


def largest_remainder(weights_K: np.ndarray, budget: int, capacities_K: np.ndarray | None = None) -> np.ndarray:
    """Share a budget over groups in proportion to weights, to the last example (Hamilton's method).

    Each group's share is budget * weight / sum(weights); a group whose share reaches its capacity gives all it has
    and what it leaves is shared among the others in proportion again. Whole parts are given out first, then one each
    to the largest remainders (equal remainders, to 9 decimals, by index). Without capacities in the way every quota
    is less than 1 from its share. Not monotone: a larger budget may take one from a group (the Alabama paradox).

    Parameters
    ----------
    weights_K : ndarray of shape (K,)
        Finite, not negative; a group of weight 0 gets nothing.
    budget : int
        0 <= budget <= the capacities of the groups with a weight above 0.
    capacities_K : ndarray of shape (K,), optional
        Members of each group; unbounded without.

    Returns
    -------
    ndarray of shape (K,), int64
        The quotas, in the groups' own order; they sum to the budget exactly.
    """
    weights = np.asarray(weights_K, dtype=np.float64)
    assert np.isfinite(weights).all() and (weights >= 0).all(), weights
    is_open = weights > 0
    capacities = np.full(len(weights), budget) if capacities_K is None else np.asarray(capacities_K, dtype=np.int64)
    most = int(capacities[is_open].sum())
    if budget < 0 or budget > most:
        raise InputError(f"budget={budget} must be between 0 and the number of candidates, {most}")
    quotas = np.zeros(len(weights), dtype=np.int64)
    left, shares = budget, np.zeros(len(weights))
    while is_open.any():
        shares = np.where(is_open, left * (weights / weights[is_open].sum()), 0)
        is_full = is_open & (shares >= capacities)
        if not is_full.any():
            break
        quotas[is_full] = capacities[is_full]
        left = budget - int(quotas.sum())
        is_open &= ~is_full
    whole = np.floor(shares[is_open]).astype(np.int64)
    remainders = np.round(shares[is_open] - whole, 9)
    whole[np.argsort(-remainders, kind="stable")[: left - int(whole.sum())]] += 1
    quotas[is_open] = whole
    assert quotas.sum() == budget
    return quotas


def proportional_sample(
    labels_N: np.ndarray, budget: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw uniformly inside each group, in proportion to the groups' sizes.

    Parameters
    ----------
    labels_N : ndarray of shape (N,)
        Group of each row, 0 to K - 1.

    Returns
    -------
    positions_B, sizes_K, quotas_K
        The drawn rows in random order over all groups, and each group's size and quota.
    """
    sizes = np.bincount(labels_N)
    quotas = largest_remainder(sizes, budget, sizes)
    shuffled = rng.permutation(len(labels_N))
    members = np.split(shuffled[np.argsort(labels_N[shuffled], kind="stable")], np.cumsum(sizes)[:-1])
    drawn = np.concatenate([rows[:quota] for rows, quota in zip(members, quotas, strict=True)])
    return rng.permutation(drawn), sizes, quotas
