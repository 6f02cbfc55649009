"""How probable each example of a pool was to be chosen: what two selections share by lot follows from it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.run import choose, composed
from s2l_ray.selectors.selector import Selector


@dataclass(frozen=True)
class Draw:
    """What a selector chooses of a pool, and how probable that was."""

    ids: pa.Array
    chances_N: np.ndarray | None
    """Probability of each example, in the pool's order, to be chosen, given the groups that the selector found: 1 and 0
    where it draws nothing; None where its lots are not equal within groups. Two selections with independent lots share
    sum_i p_i q_i examples on average."""

    def shared_by_lot(self, other: "Draw") -> float | None:
        """Return how many examples another selection of the pool has in common with this one on average."""
        if self.chances_N is None or other.chances_N is None:
            return None
        return float(np.dot(self.chances_N.astype(np.float64), other.chances_N))


def draw(selector: Selector, pool: Pool, config: SelectionConfig, seed: int) -> Draw:
    """Choose, as `run.run_selector` does, and keep the chances."""
    named, budget = composed(selector, pool, config)
    choice = choose(selector, pool, budget, config, np.random.default_rng(seed), named)
    positions = np.concatenate([named.required, choice.positions_B])
    ids = pool.example_ids.take(pa.array(positions)).cast(pa.string())
    if not selector.takes_seed:
        return certain(pool, ids)
    chances_N = choice.chances_N
    if chances_N is not None and len(named.required):
        chances_N = chances_N.copy()
        chances_N[named.required] = 1
    return Draw(ids, chances_N)


def certain(pool: Pool, ids: pa.Array) -> Draw:
    """Return a selection that no lot made."""
    chances_N = np.zeros(len(pool), dtype=np.float32)
    for positions, part in pool.each_ids():
        chances_N[positions] = pc.is_in(part.cast(ids.type), value_set=ids).to_numpy(zero_copy_only=False)
    return Draw(ids, chances_N)
