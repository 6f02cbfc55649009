"""Density sampling: draw examples from crowded regions less often.

Sachdeva et al., "How to Train Data-Efficient LLMs", arXiv 2402.09668, section on Density (inverse-propensity sampling
over a kernel sum that is sketched by hashing, after Coleman and Shrivastava's RACE).
"""

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.numerics.density import EXACT_ROWS, kernel_sums, median_distance, sample_by_weight, sketched_kernel_sums
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.tables.needs import Need

_LEAST_BANDWIDTH = 0.001


class Density(Selector):
    """Draws without replacement with probability ~ 1 / score(y), score(y) = sum_x k(x, y) over the whole pool.

    Assumes that the pool's density follows redundancy and that a uniform cover of embedding space is wanted. Exactly
    successive sampling (Gumbel top-k), hence nested for one seed. A score is 1 / score(y), at most 1; the ranks are the
    draw's own order, so a high score is likely early and not surely. If all embeddings are equal all scores are, and
    the draw is uniform.

    Our choices where we could not verify the paper's: the kernel is the chance that 4 joint 2-stable hashes of width
    `bandwidth` agree, so that up to 20,000 examples it is summed exactly and above estimated by 512 hash tables, both
    for the same kernel; with the hash's plain kernel (a power of 1) density would hardly differ between examples. A
    null bandwidth takes the median distance between 1000 seeded examples, equal ones left out.
    """

    name = "density"
    needs = frozenset({Need.EMBEDDINGS})
    parameters = frozenset({"bandwidth"})
    takes_seed = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return a sample in the order of its draws."""
        rows_ND = pool.embeddings_ND
        assert rows_ND is not None
        if config.bandwidth is not None and config.bandwidth < _LEAST_BANDWIDTH:
            raise InputError(
                f"selection.bandwidth={config.bandwidth} must be at least {_LEAST_BANDWIDTH}, the resolution of "
                f"float32 distances; set it higher, or to null for the median distance"
            )
        bandwidth = config.bandwidth or median_distance(rows_ND, rng)
        is_exact = len(pool) <= EXACT_ROWS
        sums_N = kernel_sums(rows_ND, bandwidth) if is_exact else sketched_kernel_sums(rows_ND, bandwidth, rng)
        positions = sample_by_weight(1 / sums_N, budget, rng)
        quantiles = [round(float(value), 3) for value in np.quantile(sums_N, [0, 0.25, 0.5, 0.75, 1])]
        facts = {"bandwidth": round(bandwidth, 4), "exact": is_exact, "density_quartiles": quantiles}
        return Choice(positions, scores_B=1 / sums_N[positions], facts=facts)


SELECTOR = Density()
