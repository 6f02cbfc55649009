"""The same number of examples from each group, as far as it has them: the second half of S2L's Algorithm 1."""

from collections.abc import Callable

import numpy as np

from s2l_ray.numerics.allocation import water_filling
from s2l_ray.numerics.groups import group_means, group_members
from s2l_ray.numerics.rows import Rows
from s2l_ray.selectors.selector import Choice


def taken_evenly(
    losses: np.ndarray | Rows, labels_N: np.ndarray, num_groups: int, budget: int,
    take: Callable[[np.ndarray, int], np.ndarray],
) -> Choice:
    """Return what `take` (members, quota) gives of each group, the smallest group first, with the groups as findings.

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
    quotas_K = water_filling(sizes_K, budget)
    visits = np.argsort(sizes_K, kind="stable")
    positions = np.concatenate([take(members[k], int(quotas_K[k])) for k in visits])
    facts = [{"cluster": int(k), "size": int(sizes_K[k]), "quota": int(quotas_K[k]),
              "mean_losses": rounded(means_KC[k]) if sizes_K[k] else None} for k in visits]
    labels = labels_N[positions]
    chances_N = (quotas_K / np.maximum(sizes_K, 1)).astype(np.float32)[labels_N]
    return Choice(positions, labels, facts={"clusters": facts}, quotas_B=quotas_K[labels], chances_N=chances_N)


def rounded(values_C: np.ndarray) -> list[float]:
    """Return numbers as findings hold them."""
    return [round(float(value), 4) for value in values_C]
