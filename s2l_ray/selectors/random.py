"""Uniform sampling without replacement: the control every method is judged against."""

from typing import ClassVar

import numpy as np

from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors.pool import Choice, Pool


class Random:
    """Takes the first `budget` examples of one seeded shuffle, so smaller budgets are nested in larger ones."""

    name: ClassVar[str] = "random"
    requires: ClassVar[frozenset[str]] = frozenset()
    parameters: ClassVar[frozenset[str]] = frozenset()
    is_nested: ClassVar[bool] = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return a uniform sample in random order."""
        return Choice(rng.permutation(len(pool))[:budget])
