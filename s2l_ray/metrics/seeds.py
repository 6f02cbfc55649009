"""What several seeds and the same held-out examples say together: means, differences, and corrected p-values.

Shapes: S seeds, N examples, R bootstrap draws. Seeds and examples are crossed: each seed's model answers every example.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2l_ray.metrics.intervals import NUM_RESAMPLES

_SEED = 0


@dataclass(frozen=True, slots=True)
class SeedEstimate:
    """An estimate with its 95 % interval over seeds and examples."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided, of the value being 0; nan for a mean, where nobody asks."""
    num_examples: int
    num_seeds: int
    """Of the side that has fewer; with 1 the interval knows of the examples' spread alone."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Spread:
    """What moves a mean: effects of seeds and of examples, and what they share of it by chance."""

    seeds_S: NDArray[np.float64]
    """Deviations of the seeds' means; empty where one seed says nothing of its spread."""
    examples_N: NDArray[np.float64]
    """Deviations of the examples' means."""
    seeds_per_mean: float
    """Variance of the mean by seeds: that of a seed's mean, times this."""
    noise: float
    """Variance of the mean by noise, which both deviations hold and which counts once."""


def mean_over_seeds(values_SN: NDArray[Any]) -> SeedEstimate:
    """Return the mean over seeds and examples with its interval.

    Raises
    ------
    ValueError
        There is no seed or no example, or a value is not finite.
    """
    values_SN = _checked("values_SN", values_SN)
    value, spread = float(values_SN.mean()), _spread(values_SN)
    low, high, _ = _interval(value, spread, np.random.default_rng(_SEED))
    return SeedEstimate(value, low, high, float("nan"), values_SN.shape[1], len(values_SN))


def difference_over_seeds(
    ours: Mapping[int, NDArray[Any]], theirs: Mapping[int, NDArray[Any]], rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> SeedEstimate:
    """Return the mean of ours minus theirs, paired over examples and over the seeds that both have.

    With two or more seeds in common only these count. With fewer the seeds are not paired: the spread of seeds is
    taken from the side that has several, and holds for the other too (full data is fine-tuned on once).

    A bootstrap draws seeds and examples again. Three seeds spread less than all seeds would, so their effects are drawn
    at their unbiased size, noise that both effects hold is counted once, and the interval is that of Student's t with
    Satterthwaite's degrees of freedom: with few seeds wide, as it must be.

    Parameters
    ----------
    ours, theirs
        Seed -> values of the same examples in the same order, (N,).

    Raises
    ------
    ValueError
        A side has no seed, the numbers of examples differ, or a value is not finite.
    """
    common = sorted(set(ours) & set(theirs))
    if len(common) > 1:
        ours, theirs = ({seed: side[seed] for seed in common} for side in (ours, theirs))
    ours_SN, theirs_SN = (
        _checked(name, np.array([side[seed] for seed in sorted(side)]))
        for name, side in (("ours", ours), ("theirs", theirs))
    )
    if ours_SN.shape[1] != theirs_SN.shape[1]:
        raise ValueError(f"ours has {ours_SN.shape[1]} examples, theirs {theirs_SN.shape[1]}: give the same examples")
    value = float(ours_SN.mean() - theirs_SN.mean())
    spread = _spread(ours_SN - theirs_SN) if sorted(ours) == sorted(theirs) else _unpaired(ours_SN, theirs_SN)
    low, high, p = _interval(value, spread, rng, num_resamples)
    return SeedEstimate(value, low, high, p, ours_SN.shape[1], min(len(ours_SN), len(theirs_SN)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979): below 0.05 each, wrong anywhere in 5 % at most."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(order), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(order) - place)))
        adjusted[index] = largest
    return adjusted


def _spread(values_SN: NDArray[np.float64]) -> _Spread:
    """Return the effects of a crossed table."""
    num_seeds, num_examples = values_SN.shape
    mean = values_SN.mean()
    seeds_S, examples_N = values_SN.mean(axis=1) - mean, values_SN.mean(axis=0) - mean
    if num_seeds == 1:
        return _Spread(seeds_S[:0], examples_N, 0.0, 0.0)
    rest_SN = values_SN - mean - seeds_S[:, None] - examples_N
    noise = float((rest_SN**2).sum()) / max(1, (num_seeds - 1) * (num_examples - 1))
    return _Spread(seeds_S, examples_N, 1 / num_seeds, noise / (num_seeds * num_examples))


def _unpaired(ours_SN: NDArray[np.float64], theirs_SN: NDArray[np.float64]) -> _Spread:
    """Return the effects where seeds are not the same; the spread of seeds is that of the side with more of them."""
    sides = sorted((ours_SN, theirs_SN), key=len)
    known, per_mean = _spread(sides[-1]), 1 / len(ours_SN) + 1 / len(theirs_SN)
    gaps_N = ours_SN.mean(axis=0) - theirs_SN.mean(axis=0)
    return _Spread(known.seeds_S, gaps_N - gaps_N.mean(), per_mean, known.noise * len(sides[-1]) * per_mean)


def _interval(
    value: float, spread: _Spread, rng: np.random.Generator, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, float, float]:
    """Return low, high and the p-value of 0."""
    num_seeds, num_examples = len(spread.seeds_S), len(spread.examples_N)
    by_seeds = _variance(spread.seeds_S) * spread.seeds_per_mean
    by_examples = _variance(spread.examples_N) / num_examples
    noise = min(spread.noise, by_seeds, by_examples)
    draws_R = np.zeros(num_resamples)
    if by_seeds > 0:
        drawn = rng.integers(num_seeds, size=(num_resamples, num_seeds))
        means_R = spread.seeds_S[drawn].mean(axis=1)
        draws_R += means_R * np.sqrt(by_seeds / (np.square(spread.seeds_S).mean() / num_seeds))
    if by_examples > noise:
        counts_RN = rng.multinomial(num_examples, np.full(num_examples, 1 / num_examples), size=num_resamples)
        means_R = counts_RN @ spread.examples_N / num_examples
        draws_R += means_R * np.sqrt((by_examples - noise) / (np.square(spread.examples_N).mean() / num_examples))
    error = float(draws_R.std())
    if error == 0:
        return value, value, 0.0 if value else 1.0
    pieces = by_seeds**2 / max(1, num_seeds - 1) + by_examples**2 / max(1, num_examples - 1)
    freedom = max(1.0, (by_seeds + by_examples - noise) ** 2 / pieces)
    from scipy.special import stdtr, stdtrit  # heavy: of Student's t, the distribution and its inverse

    half = float(stdtrit(freedom, 0.975)) * error
    return value - half, value + half, float(2 * stdtr(freedom, -abs(value) / error))


def _variance(effects: NDArray[np.float64]) -> float:
    return float((effects**2).sum() / (len(effects) - 1)) if len(effects) > 1 else 0.0


def _checked(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    values_SN = np.asarray(values, dtype=np.float64)
    if values_SN.ndim != 2 or 0 in values_SN.shape:
        raise ValueError(f"{name} has shape {values_SN.shape} and should be (S, N), 1 seed and 1 example at least")
    if not np.isfinite(values_SN).all():
        raise ValueError(f"{name} has {int((~np.isfinite(values_SN)).sum())} values that are not finite")
    return values_SN
