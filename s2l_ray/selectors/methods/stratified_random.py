"""Random sampling with every source in its share of the pool."""

import numpy as np

from s2l_ray.numerics.allocation import proportional_sample
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.per import sources_of
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.tables.needs import Need


class StratifiedRandom(Selector):
    """Uniform inside each source, sources in proportion to their sizes: `random` without chance between sources.

    Quotas are by largest remainder, so that each is less than one example from its share and their sum is the budget.
    For equal shares of all sources instead, take `random` with `per: source`. With one source it is `random`. Not
    nested: quotas shift.
    """

    name = "stratified_random"
    needs = frozenset({Need.SOURCES})
    is_nested = False
    takes_seed = True
    control = "matched chance"

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return a sample with proportional quotas, in random order."""
        sources = sources_of(pool, self.name)
        labels_N = np.empty(len(pool), dtype=np.int64)
        for number, (_, members) in enumerate(sources):
            labels_N[members] = number
        positions, sizes, quotas = proportional_sample(labels_N, budget, rng)
        facts = [
            {"source": name, "size": int(size), "quota": int(quota)}
            for (name, _), size, quota in zip(sources, sizes, quotas, strict=True)
        ]
        return Choice(positions, facts={"sources": facts})


SELECTOR = StratifiedRandom()
