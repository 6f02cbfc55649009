"""A score from elsewhere, such as a judge model's."""

from typing import ClassVar

import numpy as np

from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors.pool import Choice, Pool, highest_first


class External:
    """Takes the highest scores of a table (example_id, score) that somebody else made.

    The way in for a method that is not here. Assumes that higher is better; equal scores are taken in the pool's order.
    """

    name: ClassVar[str] = "external"
    requires: ClassVar[frozenset[str]] = frozenset({"scores"})
    parameters: ClassVar[frozenset[str]] = frozenset()
    is_nested: ClassVar[bool] = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the highest scores, the highest first."""
        assert pool.scores_N is not None
        return highest_first(pool.scores_N, budget)
