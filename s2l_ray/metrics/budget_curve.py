"""What more data would buy: a curve through the budgets that were tried, with its intervals.

A metric approaches a limit by a power of the rows: y(b) = A - C b^-g (learning curves of deep nets, Hestness et al.,
arXiv 1712.00409, equation 2). A, C and g are fitted by least squares weighted with the budgets' own errors; intervals
are those of fits to values drawn anew within these errors (parametric bootstrap). Suffixes: B budgets, G exponents
that are tried, R draws, X places on the curve.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST_BUDGETS = 3
_EXPONENTS_G = np.geomspace(0.05, 3, 100)
_NUM_DRAWS = 2000
_QUANTILES = (0.025, 0.975)
_MOST_SEEDS = 100


@dataclass(frozen=True)
class Spot:
    """A value of the curve, or a difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Tell whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class BudgetCurve:
    """A fitted curve, and R fits to values drawn anew."""

    limits_R: NDArray[np.float64]
    factors_R: NDArray[np.float64]
    exponents_R: NDArray[np.float64]
    """Of A, C and g; the first of each is the fit to the values themselves."""

    def at(self, shares_X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the curves at shares of the pool, (R, X)."""
        powers_RX = np.power(np.asarray(shares_X, np.float64)[None, :], -self.exponents_R[:, None])
        return self.limits_R[:, None] - self.factors_R[:, None] * powers_RX

    def gain(self, share: float, more: float) -> Spot:
        """Return what the metric changes by from a share of the pool to one that is larger by `more`."""
        values_R2 = self.at(np.array([share, share + more]))
        return _spot(values_R2[:, 1] - values_R2[:, 0])

    def first_that_reaches(self, full: float, error: float, shares_X: NDArray[np.float64], *, lower_is_better: bool
                           ) -> float | None:
        """Return the smallest share at which the interval of the difference to full data holds 0 or is better.

        Parameters
        ----------
        error
            Standard error of the value of full data.
        """
        rng = np.random.default_rng(1)
        fulls_R = full + error * np.concatenate([[0.0], rng.standard_normal(len(self.limits_R) - 1)])
        away_RX = self.at(shares_X) - fulls_R[:, None]
        best_X = np.quantile(-away_RX if lower_is_better else away_RX, _QUANTILES[1], axis=0)
        reached = np.flatnonzero(best_X >= 0)
        return float(shares_X[reached[0]]) if len(reached) else None


def fit_budget_curve(
    shares_B: NDArray[np.float64], values_B: NDArray[np.float64], errors_B: NDArray[np.float64]
) -> BudgetCurve:
    """Fit the curve through budgets, three different ones at least.

    Parameters
    ----------
    shares_B
        Budgets as shares of the pool, in (0, 1].
    values_B, errors_B
        The metric at each, and its standard error; one of 0, which few examples can give, counts as the smallest other.
    """
    shares_B, values_B, errors_B = (np.asarray(one, np.float64) for one in (shares_B, values_B, errors_B))
    assert len(np.unique(shares_B)) >= FEWEST_BUDGETS and (shares_B > 0).all(), shares_B
    least = 1e-9 * max(1.0, float(np.abs(values_B).max()))  # what is below rounding is no error
    known = errors_B[errors_B > least]
    errors_B = np.maximum(errors_B, known.min() if len(known) else least)
    rng = np.random.default_rng(0)
    drawn_RB = values_B + errors_B * np.concatenate([np.zeros((1, len(values_B))),
                                                     rng.standard_normal((_NUM_DRAWS, len(values_B)))])
    best_R = np.full(len(drawn_RB), np.inf)
    found_3R = np.zeros((3, len(drawn_RB)))
    for exponent in _EXPONENTS_G:
        design_B2 = np.stack([np.ones(len(shares_B)), -np.power(shares_B, -exponent)], axis=1) / errors_B[:, None]
        given_BR = (drawn_RB / errors_B).T
        fitted_2R = np.linalg.lstsq(design_B2, given_BR, rcond=None)[0]
        misfit_R = np.square(given_BR - design_B2 @ fitted_2R).sum(axis=0)
        is_better_R = misfit_R < best_R - 1e-12
        best_R = np.where(is_better_R, misfit_R, best_R)
        found_3R = np.where(is_better_R, np.concatenate([fitted_2R, np.full((1, len(drawn_RB)), exponent)]), found_3R)
    return BudgetCurve(*found_3R)


def seeds_that_would_tell(gain: Spot, num_seeds: int) -> int | None:
    """Return how many seeds would make the interval as narrow as the gain is far from 0; None for more than a hundred.

    As far as the spread is that of seeds: that of held-out examples takes more of these.
    """
    half = (gain.high - gain.low) / 2
    if gain.value == 0 or half == 0:
        return None
    needed = math.ceil(num_seeds * (half / abs(gain.value)) ** 2)
    return needed if needed <= _MOST_SEEDS else None


def _spot(values_R: NDArray[np.float64]) -> Spot:
    low, high = np.quantile(values_R, _QUANTILES)
    return Spot(float(values_R[0]), float(low), float(high))
