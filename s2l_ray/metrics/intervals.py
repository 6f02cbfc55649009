"""95 % confidence intervals for what an evaluation reports.

Shapes: N values, R bootstrap resamples, D statistics per value. Every function that draws takes a
`numpy.random.Generator`, so a seed fixes the interval.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

NUM_RESAMPLES = 2000

_QUANTILES = (0.025, 0.975)
NORMAL_QUANTILE = 1.959963984540054
"""Half a 95 % interval of a normal distribution, in standard errors."""
_BLOCK_ENTRIES = 2**20  # of 8 bytes; the most drawn indices or gathered values held at once


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point estimate with its 95 % interval, `low <= value <= high`, from `n` observations."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)


def mean_interval(
    values_N: ArrayLike, rng: np.random.Generator, num_resamples: int = NUM_RESAMPLES
) -> Estimate:
    """The mean with its percentile-bootstrap interval.

    A single value, or N equal ones, give an interval of zero width: the bootstrap sees no spread in them,
    which says nothing about the precision. For 0/1 outcomes `proportion_interval` has no such blind spot.

    Raises
    ------
    ValueError
        If `values_N` is empty, not one-dimensional, or holds a value that is not finite.
    """
    values_N = _finite_values("values_N", values_N)
    sums_R = _resampled_sums(values_N[:, np.newaxis], rng, num_resamples)[:, 0]
    return percentile_estimate(float(np.mean(values_N)), sums_R / len(values_N), len(values_N))


def paired_difference(
    values_a_N: ArrayLike,
    values_b_N: ArrayLike,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """The mean of `a - b` over the same N examples, by bootstrap over them; above 0, `a` is higher.

    Pairing keeps the examples' own difficulty out of the interval. Raises as `mean_interval`, and where the
    lengths differ.
    """
    values_a_N = _finite_values("values_a_N", values_a_N)
    values_b_N = _finite_values("values_b_N", values_b_N)
    _require_same_length("values_a_N", len(values_a_N), "values_b_N", len(values_b_N))
    return mean_interval(values_a_N - values_b_N, rng, num_resamples)


def share_interval(values_N: np.ndarray) -> Estimate:
    """The share of ones among values that are 0 or 1, as `proportion_interval`; nothing is drawn."""
    return proportion_interval(round(float(values_N.sum())), len(values_N))


def proportion_interval(num_successes: int, n: int) -> Estimate:
    """The proportion `num_successes / n` with its Wilson score interval; no randomness, sound at 0 and at n.

    References
    ----------
    Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if n < 1:
        raise ValueError(f"n={n} should be >= 1: a proportion needs at least one trial.")
    if not 0 <= num_successes <= n:
        raise ValueError(f"num_successes={num_successes} should be in 0..n={n}: pass counts, not rates.")
    proportion = num_successes / n
    z2_over_n = NORMAL_QUANTILE**2 / n
    center = (proportion + z2_over_n / 2) / (1 + z2_over_n)
    spread = math.sqrt(proportion * (1 - proportion) * z2_over_n + z2_over_n**2 / 4) / (1 + z2_over_n)
    low, high = max(0.0, center - spread), min(1.0, center + spread)
    return Estimate(proportion, min(low, proportion), max(high, proportion), int(n))


def bootstrap_statistic(
    stats_ND: NDArray[Any],
    score_of_sums: Callable[[NDArray[Any]], float],
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Percentile bootstrap for a score that is a function of statistics summed over examples, such as BLEU.

    Parameters
    ----------
    stats_ND : ndarray of shape (N, D), N >= 1
        Per-example statistics.
    score_of_sums
        From the sums, shape (D,), to the score.
    """
    if len(stats_ND) == 0:
        raise ValueError("stats_ND has 0 rows and should have >= 1: pass at least one example.")
    scores_R = [score_of_sums(sums_D) for sums_D in _resampled_sums(stats_ND, rng, num_resamples)]
    return percentile_estimate(score_of_sums(stats_ND.sum(axis=0)), np.array(scores_R), len(stats_ND))


def percentile_estimate(value: float, resampled_R: NDArray[Any], n: int) -> Estimate:
    """The estimate with the middle 95 % of `resampled_R` as interval, widened to hold `value` if need be.

    Widening matters to the last bit for a mean, and to a score that is not linear on very few examples.
    """
    low, high = np.quantile(resampled_R, _QUANTILES)
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def _resampled_sums(stats_ND: NDArray[Any], rng: np.random.Generator, num_resamples: int) -> NDArray[Any]:
    """Sums of N rows drawn with replacement, R times over: shape (R, D), in the dtype of `stats_ND`."""
    if num_resamples < 1:
        raise ValueError(f"num_resamples={num_resamples} should be >= 1: {NUM_RESAMPLES} is the default.")
    num_examples, num_stats = stats_ND.shape
    sums_RD = np.zeros((num_resamples, num_stats), dtype=stats_ND.dtype)
    for resamples, draws in _blocks(num_resamples, num_examples, num_stats):
        shape = (resamples.stop - resamples.start, draws.stop - draws.start)
        sums_RD[resamples] += stats_ND[rng.integers(num_examples, size=shape)].sum(axis=1)
    return sums_RD


def _blocks(num_resamples: int, num_examples: int, num_stats: int) -> Iterator[tuple[slice, slice]]:
    """Tiles of the (R, N) table of draws, so that memory stays bounded for any R and N."""
    draws_per_block = max(1, min(num_examples, _BLOCK_ENTRIES // num_stats))
    resamples_per_block = max(1, _BLOCK_ENTRIES // (num_stats * draws_per_block))
    for first in range(0, num_resamples, resamples_per_block):
        resamples = slice(first, min(first + resamples_per_block, num_resamples))
        for start in range(0, num_examples, draws_per_block):
            yield resamples, slice(start, min(start + draws_per_block, num_examples))


def _finite_values(name: str, values: ArrayLike) -> NDArray[np.float64]:
    values_N = np.asarray(values, dtype=np.float64)
    if values_N.ndim != 1:
        raise ValueError(f"{name} has shape {values_N.shape} and should be (N,): pass one value per example.")
    if len(values_N) == 0:
        raise ValueError(f"{name} has 0 values and should have >= 1: pass at least one example.")
    # A resample's sum may be N times the largest value, so that product has to be finite too.
    limit = np.finfo(np.float64).max / (2 * len(values_N))
    beyond = np.flatnonzero(~(np.abs(values_N) <= limit))
    if len(beyond):
        raise ValueError(
            f"{name}[{beyond[0]}]={values_N[beyond[0]]} should be finite (magnitude <= {limit:.3g}); "
            f"{len(beyond)} such of {len(values_N)}: drop or fix those examples first."
        )
    return values_N


def _require_same_length(name: str, length: int, other_name: str, other_length: int) -> None:
    if length != other_length:
        raise ValueError(
            f"{name} has {length} values, {other_name} has {other_length}; the lengths should be equal: "
            "pass one of each per example, in the same order."
        )
