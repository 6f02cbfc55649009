"""Random sampling with the pool's length distribution: the control for methods that prefer long responses."""

import numpy as np

from s2l_ray.numerics.allocation import proportional_sample
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.tables.needs import Need

_NUM_BINS = 10


class LengthMatchedRandom(Selector):
    """Uniform inside each decile of supervised tokens, the deciles in the pool's own proportions.

    Our definition: a selection known beforehand could be matched instead, but a selector sees the pool alone; so this
    is `random` without its chance differences in length. Equal lengths stay in one bin, so that frequent lengths make
    fewer and larger bins; equal lengths throughout make one bin, which is `random`. Not nested: quotas shift.
    """

    name = "length_matched_random"
    needs = frozenset({Need.LENGTHS})
    is_nested = False
    takes_seed = True
    control = "matched chance"

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return a sample with proportional quotas, in random order."""
        assert pool.lengths_N is not None
        edges = np.quantile(pool.lengths_N, np.arange(1, _NUM_BINS) / _NUM_BINS)
        bins_N = np.unique(np.searchsorted(edges, pool.lengths_N, side="right"), return_inverse=True)[1]
        positions, sizes, quotas = proportional_sample(bins_N, budget, rng)
        facts = [
            {"shortest": int(lengths.min()), "longest": int(lengths.max()), "size": int(size), "quota": int(quota)}
            for number, (size, quota) in enumerate(zip(sizes, quotas, strict=True))
            for lengths in [pool.lengths_N[bins_N == number]]
        ]
        return Choice(positions, facts={"length_bins": facts})


SELECTOR = LengthMatchedRandom()
