"""Selectors that rank by the loss alone; S2L (arXiv 2403.07384) compares with several of them.

Their names are the paper's; it does not publish their definitions in its code, so each definition here is our own
reading. The loss is the mean nats of a supervised token at the last trajectory point, the finished proxy. Equal
scores are taken in the pool's order, a hash of the ids, so nothing is random and ties favour no source.
"""

from typing import ClassVar

import numpy as np

from s2l_ray.numerics.ranking import ascending_order, mean_ranks
from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors.pool import Choice, Pool, highest_first


class HighLoss:
    """What the finished proxy still does worst at: score = l_n. Also takes what cannot be learned, such as noise."""

    name: ClassVar[str] = "high_loss"
    requires: ClassVar[frozenset[str]] = frozenset({"trajectories"})
    parameters: ClassVar[frozenset[str]] = frozenset()
    is_nested: ClassVar[bool] = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the highest last losses, the highest first."""
        return highest_first(_last(pool), budget)


class LowLoss:
    """What the finished proxy does best at: score = -l_n."""

    name: ClassVar[str] = "low_loss"
    requires: ClassVar[frozenset[str]] = frozenset({"trajectories"})
    parameters: ClassVar[frozenset[str]] = frozenset()
    is_nested: ClassVar[bool] = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the lowest last losses, the lowest first."""
        return highest_first(-_last(pool), budget)


class LeastConfidence:
    """Lowest mean probability of a response token, score = -exp(-l_n).

    exp(-mean loss) is the geometric mean of the token probabilities, so the order is that of `high_loss` and only the
    score differs. Whether the paper means the arithmetic mean, which needs every token's probability, is unverified.
    """

    name: ClassVar[str] = "least_confidence"
    requires: ClassVar[frozenset[str]] = frozenset({"trajectories"})
    parameters: ClassVar[frozenset[str]] = frozenset()
    is_nested: ClassVar[bool] = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the least confident examples; ranked by loss, since tiny probabilities would round to equal."""
        found = highest_first(_last(pool), budget)
        assert found.scores_B is not None
        return Choice(found.positions_B, scores_B=-np.exp(-found.scores_B.astype(np.float64)))


class MiddlePerplexity:
    """The middle of the perplexity ranking: score = -|rank - (N - 1) / 2|.

    After Marion et al., "When Less is More", arXiv 2309.04564. By ranks, so no scale matters; equal perplexities share
    their mean rank. Our choice: the window grows around the median, the nearest first. All equal: all score alike.
    """

    name: ClassVar[str] = "middle_perplexity"
    requires: ClassVar[frozenset[str]] = frozenset({"trajectories"})
    parameters: ClassVar[frozenset[str]] = frozenset()
    is_nested: ClassVar[bool] = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the examples nearest to the median rank."""
        return highest_first(-np.abs(mean_ranks(_last(pool)) - (len(pool) - 1) / 2), budget)


class HighLearnability:
    """The largest loss decrease over training: score = l_0 - l_n.

    l_0 is the first recorded point: the untouched model where trajectories have point 0 (trajectory.include_initial),
    else the earliest one of training. With a single point every score is 0.
    """

    name: ClassVar[str] = "high_learnability"
    requires: ClassVar[frozenset[str]] = frozenset({"trajectories"})
    parameters: ClassVar[frozenset[str]] = frozenset()
    is_nested: ClassVar[bool] = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the largest decreases, the largest first."""
        assert pool.losses_NC is not None
        losses_N2 = pool.losses_NC[:, [0, -1]].astype(np.float64)
        return highest_first(losses_N2[:, 0] - losses_N2[:, 1], budget)


class ConfidenceCurriculum:
    """An even sample of all confidences, ordered as a curriculum: the most confident first, the least at the end.

    The paper's baseline works during training, with decreasing confidence; its definition is unverified. This offline
    reading is our own: of all examples by ascending loss, the middle one of each of B equally long runs, in that order
    (rank floor((2j + 1) N / 2B) for j = 0..B-1). Score = -l_n. The ranks are the curriculum: a training that shuffles
    sees the same examples without it. Not nested.
    """

    name: ClassVar[str] = "confidence_curriculum"
    requires: ClassVar[frozenset[str]] = frozenset({"trajectories"})
    parameters: ClassVar[frozenset[str]] = frozenset()
    is_nested: ClassVar[bool] = False

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return evenly spaced ranks of the ascending losses."""
        losses_N = _last(pool)
        ranks = (2 * np.arange(budget) + 1) * len(pool) // (2 * budget)
        positions = ascending_order(losses_N)[ranks]
        return Choice(positions, scores_B=-losses_N[positions])


def _last(pool: Pool) -> np.ndarray:
    """Return the losses at the last point, float32 of shape (N,)."""
    assert pool.losses_NC is not None
    return pool.losses_NC[:, -1]
