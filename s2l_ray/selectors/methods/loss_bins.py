"""Even sampling over bins of the mean loss: what S2L must beat for its trajectories to add anything. Our own."""

from dataclasses import replace

import numpy as np

from s2l_ray.numerics.kmeans import resolve_num_clusters
from s2l_ray.numerics.rows import ArrayRows, Positions
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.even import taken_evenly
from s2l_ray.selectors.methods.s2l import clustered_points
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.tables.needs import Need


class LossBins(Selector):
    """S2L's even sampling, over bins of each example's mean loss instead of clusters of its trajectory.

    A control: the mean forgets in which order a loss fell, and keeps how high it was. On published losses of seven
    models, selections of a small and a large model agreed as much by these bins as by S2L's clusters. `num_clusters`
    bins of equal width lie between the lowest and the highest mean over the trajectory points (without the untouched
    model unless `include_initial`); each bin gives the same number of examples, uniformly drawn, or all it has, as
    S2L's clusters do (Algorithm 1, arXiv 2403.07384). An example's score is minus its mean loss. If all means are equal
    there is one bin. Not nested.
    """

    name = "loss_bins"
    needs = frozenset({Need.TRAJECTORIES})
    parameters = frozenset({"num_clusters", "include_initial"})
    is_nested = False
    takes_seed = True
    title = "bins of the mean loss"

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return an even sample over the bins."""
        losses = pool.losses_NC
        assert losses is not None
        num_bins = resolve_num_clusters(config.num_clusters, len(pool))
        points_C = clustered_points(pool.fractions_C, losses.shape[1], config.include_initial)
        means_N = np.empty(len(pool))

        def keep(positions: Positions, rows_BC: np.ndarray) -> None:
            means_N[positions] = rows_BC[:, points_C].mean(axis=1, dtype=np.float64)

        for _ in (ArrayRows(losses) if isinstance(losses, np.ndarray) else losses).each(keep):
            pass  # each block keeps its own
        choice = taken_evenly(losses, bins_of(means_N, num_bins), num_bins, budget,
                              lambda members, quota: rng.choice(members, quota, replace=False))
        return replace(choice, scores_B=-means_N[choice.positions_B])


def bins_of(values_N: np.ndarray, num_bins: int) -> np.ndarray:
    """Return which of so many bins of equal width each value lies in, (N,) int64; the highest belongs to the last."""
    low, high = values_N.min(), values_N.max()
    width = (high - low) / num_bins
    if not width > 0:
        return np.zeros(len(values_N), dtype=np.int64)
    return np.minimum(((values_N - low) / width).astype(np.int64), num_bins - 1)


SELECTOR = LossBins()
