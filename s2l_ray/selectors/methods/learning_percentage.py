"""Learning Percentage: what an example had learned after one epoch of the proxy, the least first.

Mekala, Nguyen and Shang, "Smaller Language Models are capable of selecting Instruction-Tuning Training Data for
Larger Language Models", Findings of ACL 2024, arXiv 2402.10430.
"""

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.numerics.allocation import largest_remainder
from s2l_ray.numerics.kmeans import cluster_rows, resolve_num_clusters
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.tables.needs import Need

_NEAR = 0.02  # a point this far from epoch_1_fraction still counts as the end of epoch 1: steps are whole numbers
MOST_NATS = 600.0  # exp of it is still a double, even divided by the smallest float32


class LearningPercentage(Selector):
    """Low LP(1) = (P_0 - P_1) / (P_0 - P_n) is hard, and hard examples of every topic are chosen.

    P_e = exp(mean loss) is the perplexity of the untouched proxy (e = 0), after its first epoch and after its last; a
    denominator of 0 gives LP 0, as in the authors' code. For diversity the embeddings are clustered with k-means (the
    authors take 1000 clusters for 52,002 examples) and each cluster gives its lowest LP, in proportion to its size.

    Where we depart from the code: quotas are by largest remainder, so 1 % is 1 % (the code rounds up in each cluster
    and doubles it); the mean runs over all supervised tokens (the code leaves out those of loss 0). Our choice: ranks
    run over the whole selection by ascending LP, equal ones in the pool's order; the score is -LP. Assumes that the
    point nearest to `epoch_1_fraction` (within 0.02) ends epoch 1. Equal trajectories are chosen in the pool's order.
    Not nested: quotas shift.
    """

    name = "learning_percentage"
    needs = frozenset({Need.TRAJECTORIES, Need.EMBEDDINGS})
    parameters = frozenset(
        {"num_clusters", "kmeans_fit_rows", "kmeans_iterations", "epoch_1_fraction"}
    )
    is_nested = False
    takes_seed = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the lowest percentages of each embedding cluster, over all clusters the lowest first."""
        assert pool.embeddings_ND is not None
        percentages_N = self._percentages(pool, epoch_1_point(pool.fractions_C, config.epoch_1_fraction))
        found = cluster_rows(
            pool.embeddings_ND, resolve_num_clusters(config.num_clusters, len(pool)), rng,
            fit_rows=config.kmeans_fit_rows, iterations=config.kmeans_iterations,
        )
        sizes_K = np.bincount(found.labels_N, minlength=len(found.centroids_KC))
        quotas_K = largest_remainder(sizes_K, budget, sizes_K)
        order = np.argsort(percentages_N, kind="stable")
        places_N = _places_in_group(found.labels_N[order])
        positions = order[places_N < quotas_K[found.labels_N[order]]]
        facts = [{"cluster": k, "size": int(sizes_K[k]), "quota": int(quotas_K[k])} for k in range(len(sizes_K))]
        labels = found.labels_N[positions]
        return Choice(
            positions, labels, -percentages_N[positions], {"clusters": facts}, quotas_K[labels],
            found.distances_N[positions],
        )

    def check(self, config: SelectionConfig, num_candidates: int, fractions_C: np.ndarray | None) -> None:
        """Refuse more clusters than examples, and trajectories without the end of epoch 1."""
        super().check(config, num_candidates, fractions_C)
        epoch_1_point(fractions_C, config.epoch_1_fraction)

    def _percentages(self, pool: Pool, epoch_1: int) -> np.ndarray:
        assert pool.losses_NC is not None
        if epoch_1 == pool.losses_NC.shape[1] - 1:
            raise InputError(
                f"{self.name} needs a point after epoch 1, but that is the last one recorded: train the proxy for "
                f"longer, lower selection.epoch_1_fraction, or take learning_percentage_approx"
            )
        return learning_percentages(pool.losses_NC[:, [0, epoch_1, -1]])


def learning_percentages(losses_N3: np.ndarray) -> np.ndarray:
    """Return LP(1) of losses before training, after epoch 1 and at the end, float64 of shape (N,).

    With a = l_1 - l_0 and b = l_n - l_0, LP = expm1(a) / expm1(b), where expm1(x) = sign(x) e^max(x, 0) (1 - e^-|x|):
    no perplexity is ever formed, so no loss overflows (ratios beyond e^600 are cut off there).
    """
    losses = losses_N3.astype(np.float64)
    a, b = losses[:, 1] - losses[:, 0], losses[:, 2] - losses[:, 0]
    growth = np.exp(np.clip(np.maximum(a, 0) - np.maximum(b, 0), -MOST_NATS, MOST_NATS))
    small_a, small_b = -np.expm1(-np.abs(a)), -np.expm1(-np.abs(b))
    ratio = growth * small_a / np.where(b == 0, 1, small_b)
    return np.where(b == 0, 0.0, np.sign(a) * np.sign(b) * ratio)


def epoch_1_point(fractions_C: np.ndarray | None, fraction: float) -> int:
    """Return the index of the trajectory point that ends epoch 1, point 0 being the untouched model.

    Raises
    ------
    InputError
        The points' fractions are unknown, the first is not 0, or none is near `fraction`.
    """
    if fractions_C is None:
        raise InputError("learning percentage needs the training fraction of each point, and this table tells none: "
                         'name them in its metadata, {"points": [{"step": 0, "fraction": 0.0}, ...]} '
                         "(in Python fractions=)")
    recorded = ", ".join(f"{value:.4g}" for value in fractions_C)
    if fractions_C[0] != 0:
        raise InputError(f"learning percentage needs the untouched model's losses (fraction 0), the recorded fractions "
                         f"are {recorded}: set trajectory.include_initial=true")
    distances = np.where(fractions_C > 0, np.abs(fractions_C - fraction), np.inf)
    nearest = int(np.argmin(distances))
    if distances[nearest] > _NEAR:
        raise InputError(
            f"no trajectory point within {_NEAR} of selection.epoch_1_fraction={fraction:.4g}, the recorded fractions "
            f"are {recorded}: set trajectory.num_points to a multiple of the proxy's epochs, or epoch_1_fraction to "
            "1 / epochs"
        )
    return nearest


def _places_in_group(labels_N: np.ndarray) -> np.ndarray:
    """Return how many earlier rows have the same label, for each row."""
    grouped = np.argsort(labels_N, kind="stable")
    sizes = np.bincount(labels_N)
    firsts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = np.empty(len(labels_N), dtype=np.int64)
    places[grouped] = np.arange(len(labels_N)) - firsts
    return places


SELECTOR = LearningPercentage()
