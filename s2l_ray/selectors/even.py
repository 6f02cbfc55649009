"""The same number of examples from each group, as far as it has them: the second half of S2L's Algorithm 1."""

from collections.abc import Callable

import numpy as np

from s2l_ray.numerics.allocation import water_filling
from s2l_ray.numerics.groups import group_means, group_members
from s2l_ray.numerics.rows import Rows
from s2l_ray.selectors.selector import Choice


def taken_evenly(
    losses: np.ndarray | Rows, labels_N: np.ndarray, num_groups: int, budget: int,
    take: Callable[[np.ndarray, int], np.ndarray], least_size: int = 1,
) -> Choice:
    """Return what `take` (members, quota) gives of each group, the smallest group first, with the groups as findings.

    Groups of fewer than `least_size` are one group that comes last, and gives only what the others have not.

    Parameters
    ----------
    losses
        Of all examples, (N, C) in nats: the findings have each group's mean.
    labels_N : ndarray of shape (N,)
        Group of each example, 0 to `num_groups` - 1; a group may be empty.
    """
    means_KC = group_means(losses, labels_N, num_groups)  # before the members, which take 8 bytes a row
    members = group_members(labels_N, num_groups)
    sizes_K = np.array([len(rows) for rows in members])
    is_small_K = sizes_K < least_size
    quotas_K = water_filling(np.where(is_small_K, 0, sizes_K), min(budget, int(sizes_K[~is_small_K].sum())))
    chances_K = quotas_K / np.maximum(sizes_K, 1)
    visits = np.argsort(sizes_K, kind="stable")
    taken = [np.empty(0, dtype=np.int64), *(take(members[k], int(quotas_K[k])) for k in visits if not is_small_K[k])]
    left = budget - int(quotas_K.sum())
    if left:
        rest = np.sort(np.concatenate([members[k] for k in np.flatnonzero(is_small_K)]))
        taken.append(take(rest, left))
        quotas_K = quotas_K + np.bincount(labels_N[taken[-1]], minlength=num_groups)
        chances_K = np.where(is_small_K, left / len(rest), chances_K)
    positions = np.concatenate(taken)
    facts = [{"cluster": int(k), "size": int(sizes_K[k]), "quota": int(quotas_K[k]),
              "mean_losses": rounded(means_KC[k]) if sizes_K[k] else None} for k in visits]
    labels = labels_N[positions]
    chances_N = chances_K.astype(np.float32)[labels_N]
    return Choice(positions, labels, facts={"clusters": facts}, quotas_B=quotas_K[labels], chances_N=chances_N)


def rounded(values_C: np.ndarray) -> list[float]:
    """Return numbers as findings hold them."""
    return [round(float(value), 4) for value in values_C]
