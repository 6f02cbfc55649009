"""Confidence intervals. Run: pytest tests/metrics/test_intervals.py"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.metrics import intervals
from s2l_ray.metrics.intervals import (
    Estimate,
    bootstrap_statistic,
    mean_interval,
    paired_difference,
    proportion_interval,
)

finite_values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("num_successes", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),  # z^2 / (n + z^2) = 3.8415 / 13.8415
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (1, 1, 0.2065, 1.0),  # 1 / (1 + z^2) = 1 / 4.8415
    ],
)
def test_wilson_against_known_numbers(num_successes: int, n: int, low: float, high: float) -> None:
    estimate = proportion_interval(num_successes, n)
    assert estimate.value == num_successes / n
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_proportion_and_mirrors(counts: tuple[int, int]) -> None:
    num_successes, n = counts
    estimate, mirrored = proportion_interval(num_successes, n), proportion_interval(n - num_successes, n)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.low == pytest.approx(1 - mirrored.high, abs=1e-9)


def test_mean_interval_of_two_values_by_hand() -> None:
    # Resampled means of {0, 1} are 0, 1/2, 1 with chances 1/4, 1/2, 1/4, so the middle 95 % spans 0 to 1.
    assert mean_interval([0.0, 1.0], rng()) == Estimate(value=0.5, low=0.0, high=1.0, n=2)


def test_mean_interval_agrees_with_the_normal_approximation() -> None:
    values_N = rng(1).normal(size=400)
    estimate = mean_interval(values_N, rng(2))
    half_width = 1.96 * values_N.std() / np.sqrt(400)
    assert estimate.value == pytest.approx(values_N.mean())
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half_width, rel=0.1)


@pytest.mark.parametrize("values", [[3.5], [0.1] * 7])
def test_one_value_or_equal_values_have_zero_width(values: list[float]) -> None:
    estimate = mean_interval(values, rng())
    assert estimate.value == pytest.approx(values[0])
    assert estimate.high - estimate.low == pytest.approx(0, abs=1e-12)
    assert estimate.n == len(values)


@given(finite_values)
@settings(max_examples=50, deadline=None)
def test_mean_interval_holds_the_mean(values: list[float]) -> None:
    estimate = mean_interval(values, rng(), num_resamples=100)
    assert estimate.low <= estimate.value <= estimate.high
    assert min(values) - 1e-6 <= estimate.low <= estimate.high <= max(values) + 1e-6


def test_bootstrap_coverage() -> None:
    # 300 samples of 60 from an exponential of mean 1: nominal 95 %; its skew costs the percentile bootstrap a
    # little, and the standard error of a coverage from 300 is about 1.4 %.
    samples = rng(3).exponential(size=(300, 60))
    estimates = [mean_interval(sample, rng(seed), 500) for seed, sample in enumerate(samples)]
    coverage = np.mean([estimate.low <= 1.0 <= estimate.high for estimate in estimates])
    assert 0.88 <= coverage <= 0.98


def test_tiling_the_draws_keeps_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    values_N = rng(4).normal(size=100)
    whole = mean_interval(values_N, rng(5))
    monkeypatch.setattr(intervals, "_BLOCK_ENTRIES", 30)  # 4 tiles to a resample, the last one short
    tiled = mean_interval(values_N, rng(5))
    assert (tiled.low, tiled.high) == pytest.approx((whole.low, whole.high), abs=0.03)
    # A resample of ones sums to N only if every tile is drawn exactly once.
    assert mean_interval(np.ones(100), rng()) == Estimate(1.0, 1.0, 1.0, 100)


def test_paired_difference_drops_what_the_pairs_share() -> None:
    difficulty = rng(6).normal(scale=100, size=50)
    estimate = paired_difference(difficulty + 2.0, difficulty, rng())
    assert estimate.value == pytest.approx(2.0)
    assert estimate.high - estimate.low < 1e-9
    # [3, 1] - [1, 2] = [2, -1]: mean 1/2, resampled means 2, 1/2, -1.
    assert paired_difference([3, 1], [1, 2], rng()) == Estimate(value=0.5, low=-1.0, high=2.0, n=2)


def test_bootstrap_statistic_of_a_ratio() -> None:
    # Score = sum of column 0 / sum of column 1; rows (1, 2) and (3, 4) give 4/6, and resamples 1/2, 4/6, 3/4.
    stats_ND = np.array([[1, 2], [3, 4]])
    estimate = bootstrap_statistic(stats_ND, lambda sums_D: float(sums_D[0] / sums_D[1]), rng())
    assert estimate == Estimate(value=4 / 6, low=0.5, high=0.75, n=2)


def test_the_seed_fixes_the_interval() -> None:
    values_N = rng(9).normal(size=20)
    assert mean_interval(values_N, rng(10)) == mean_interval(values_N, rng(10))
    assert mean_interval(values_N, rng(10)) != mean_interval(values_N, rng(11))


def test_to_dict() -> None:
    assert Estimate(0.5, 0.25, 0.75, 4).to_dict() == {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([], rng()), r"values_N has 0 values and should have >= 1"),
        (lambda: mean_interval([1, np.nan], rng()), r"values_N\[1\]=nan should be finite"),
        (lambda: mean_interval([np.inf], rng()), r"values_N\[0\]=inf should be finite"),
        (lambda: mean_interval([1e308, 1e308], rng()), r"values_N\[0\]=1e\+308 should be finite"),
        (lambda: mean_interval([[1.0]], rng()), r"shape \(1, 1\) and should be \(N,\)"),
        (lambda: mean_interval([1.0], rng(), 0), r"num_resamples=0 should be >= 1"),
        (lambda: paired_difference([1], [1, 2], rng()), r"values_a_N has 1 values, values_b_N has 2"),
        (lambda: proportion_interval(0, 0), r"n=0 should be >= 1"),
        (lambda: proportion_interval(3, 2), r"num_successes=3 should be in 0\.\.n=2"),
        (lambda: bootstrap_statistic(np.zeros((0, 2)), sum, rng()), r"0 rows and should have >= 1"),
    ],
)
def test_errors_name_value_bound_and_remedy(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
