"""The whole pool: the yardstick of every smaller budget."""

from typing import ClassVar

import numpy as np

from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors.pool import Choice, Pool


class Full:
    """Takes every example, in the pool's order; its budget is the pool's size."""

    name: ClassVar[str] = "full"
    requires: ClassVar[frozenset[str]] = frozenset()
    parameters: ClassVar[frozenset[str]] = frozenset()
    is_nested: ClassVar[bool] = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return all positions in order."""
        return Choice(np.arange(budget))
