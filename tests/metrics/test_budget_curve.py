"""Curves whose truth is known: .venv/bin/pytest tests/metrics/test_budget_curve.py"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.metrics.budget_curve import Spot, fit_budget_curve, seeds_that_would_tell

SHARES = np.array([0.02, 0.05, 0.11, 0.25, 0.5])


def truth(shares, limit=0.7, factor=0.05, exponent=0.4):
    return limit - factor * np.asarray(shares) ** -exponent


def test_values_without_error_give_the_curve_itself():
    curve = fit_budget_curve(SHARES, truth(SHARES), np.full(5, 1e-6))
    assert curve.at(np.array([0.03, 0.3, 1.0]))[0] == pytest.approx(truth([0.03, 0.3, 1.0]), abs=1e-3)
    gain = curve.gain(0.5, 0.01)
    assert gain.is_clear and gain.value == pytest.approx(truth(0.51) - truth(0.5), rel=0.05)


@pytest.mark.parametrize("error", [0.002, 0.01])
def test_intervals_cover_the_truth(error):
    rng = np.random.default_rng(0)
    true_gain, true_value = truth(0.51) - truth(0.5), truth(0.3)
    inside_gain = inside_value = 0
    for _ in range(200):
        curve = fit_budget_curve(SHARES, truth(SHARES) + error * rng.standard_normal(5), np.full(5, error))
        gain, values = curve.gain(0.5, 0.01), curve.at(np.array([0.3]))[:, 0]
        inside_gain += gain.low <= true_gain <= gain.high
        inside_value += np.quantile(values, 0.025) <= true_value <= np.quantile(values, 0.975)
    assert inside_gain >= 180 and inside_value >= 180, (inside_gain, inside_value)


def test_the_smallest_budget_that_reaches_full_data():
    # Full data is at 0.62: 0.7 - 0.05 b^-0.4 = 0.62 -> b = (0.05 / 0.08)^2.5 = 0.309.
    curve, places = fit_budget_curve(SHARES, truth(SHARES), np.full(5, 1e-6)), np.arange(1, 101) / 100
    assert curve.first_that_reaches(0.62, 0.0, places, lower_is_better=False) == 0.31
    assert curve.first_that_reaches(0.72, 0.0, places, lower_is_better=False) is None
    down = fit_budget_curve(SHARES, -truth(SHARES), np.full(5, 1e-6))
    assert down.first_that_reaches(-0.62, 0.0, places, lower_is_better=True) == 0.31
    wide = fit_budget_curve(SHARES, truth(SHARES), np.full(5, 0.02))
    assert wide.first_that_reaches(0.62, 0.02, places, lower_is_better=False) < 0.31, "what is not known may reach it"


def test_a_flat_curve_buys_nothing_and_how_many_seeds_would_tell():
    rng = np.random.default_rng(0)
    gain = fit_budget_curve(SHARES, 0.5 + 0.01 * rng.standard_normal(5), np.full(5, 0.01)).gain(0.5, 0.01)
    assert not gain.is_clear
    # Three seeds, half a width of 0.02 and a gain of 0.01: (0.02 / 0.01)^2 x 3 = 12.
    assert seeds_that_would_tell(Spot(0.01, -0.01, 0.03), 3) == 12
    assert seeds_that_would_tell(Spot(0.001, -0.01, 0.03), 3) is None
    assert seeds_that_would_tell(Spot(0.0, -0.01, 0.01), 3) is None


@given(st.lists(st.tuples(st.floats(0.001, 1), st.floats(-5, 5), st.floats(0, 1)), min_size=3, max_size=8,
                unique_by=lambda row: round(row[0], 3)))
def test_anything_measured_gives_finite_numbers(rows):
    shares, values, errors = np.array(rows).T
    gain = fit_budget_curve(shares, values, errors).gain(float(shares.max()), 0.01)
    assert np.isfinite([gain.value, gain.low, gain.high]).all() and gain.low <= gain.high
