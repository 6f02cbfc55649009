"""Seeds and examples together: arithmetic by hand, errors under the null, power: .venv/bin/pytest tests/metrics/test_seeds.py"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from s2l_ray.metrics.seeds import difference_over_seeds, holm, mean_over_seeds

RNG = np.random.default_rng


def answers(rng, num_seeds, num_examples, effect=0.0, difficulty=None, seed_spread=0.15):
    """Right and wrong answers as fine-tuned models give them: examples differ much, seeds some, the rest is chance."""
    difficulty = rng.normal(0.8, 1.5, num_examples) if difficulty is None else difficulty
    seeds = rng.normal(0, seed_spread, (num_seeds, 1))
    chance = 1 / (1 + np.exp(-(difficulty + seeds + effect)))
    return dict(enumerate((rng.random((num_seeds, num_examples)) < chance).astype(float)))


def rate(effect, num_theirs=3, runs=1000, num_examples=200):
    """Return the share of simulated comparisons called significant."""
    rng, found = RNG(1), 0
    for _ in range(runs):
        difficulty = rng.normal(0.8, 1.5, num_examples)
        ours = answers(rng, 3, num_examples, effect, difficulty)
        theirs = answers(rng, num_theirs, num_examples, 0.0, difficulty)
        found += difference_over_seeds(ours, theirs, rng, num_resamples=200).p < 0.05
    return found / runs


@pytest.mark.parametrize("num_theirs", [3, 1])
def test_no_difference_is_called_significant_in_six_percent_at_most(num_theirs):
    assert rate(0.0, num_theirs) <= 0.06


def test_a_planted_difference_is_found(record_property):
    # logit + 1 is 15 points of accuracy; with 200 examples and 3 seeds each it is found 3 times in 4.
    power = rate(1.0, runs=200)
    record_property("power", power)
    assert power >= 0.7


def test_the_middle_of_a_family_of_nulls_is_not_called_either():
    rng, wrong = RNG(2), 0
    for _ in range(300):
        p = [difference_over_seeds(answers(rng, 3, 80), answers(rng, 3, 80), rng, 200).p for _ in range(3)]
        wrong += min(holm(p)) < 0.05
    assert wrong / 300 <= 0.06


def test_equal_seeds_leave_the_paired_t_interval_over_examples():
    # Both seeds agree, so nothing but examples varies: differences 1, 0, 1, 2 have mean 1 and variance 2/3;
    # the standard error is sqrt(2/3 / 4) = 0.408, t(0.975, 3) = 3.182, so the half-width is 1.299.
    ours = {0: np.array([3.0, 2.0, 1.0, 2.0]), 1: np.array([3.0, 2.0, 1.0, 2.0])}
    theirs = {0: np.array([2.0, 2.0, 0.0, 0.0]), 1: np.array([2.0, 2.0, 0.0, 0.0])}
    found = difference_over_seeds(ours, theirs, RNG(0), num_resamples=200_000)
    assert found.value == 1
    assert found.high - found.value == pytest.approx(3.182 * 0.408, rel=0.01)
    assert (found.num_examples, found.num_seeds) == (4, 2)


def test_equal_examples_leave_the_t_interval_over_seeds():
    # Differences 1, 2, 3 by seed, the same for all 50 examples: error sqrt(1 / 3), t(0.975, 2) = 4.303.
    ours = {seed: np.full(50, seed + 1.0) for seed in range(3)}
    theirs = {seed: np.zeros(50) for seed in range(3)}
    found = difference_over_seeds(ours, theirs, RNG(0), num_resamples=100_000)
    assert found.value == 2
    assert found.high - found.value == pytest.approx(4.303 * np.sqrt(1 / 3), rel=0.01)
    assert found.p == pytest.approx(2 * stats.t.sf(2 / np.sqrt(1 / 3), 2), rel=0.02)


def test_a_side_with_one_seed_takes_the_spread_of_the_other():
    # Seeds 1, 2, 3 on one side: variance 1, so 1/3 for its mean and 1 for a single one: error sqrt(4/3).
    ours = {seed: np.full(50, seed + 1.0) for seed in range(3)}
    found = difference_over_seeds(ours, {7: np.zeros(50)}, RNG(0), num_resamples=100_000)
    assert found.high - found.value == pytest.approx(4.303 * np.sqrt(4 / 3), rel=0.01)
    assert found.num_seeds == 1


def test_only_seeds_in_common_count_where_there_are_two():
    ours = {0: np.array([1.0, 1.0]), 1: np.array([1.0, 1.0]), 2: np.array([100.0, 100.0])}
    theirs = {0: np.array([0.0, 0.0]), 1: np.array([0.0, 0.0])}
    assert difference_over_seeds(ours, theirs, RNG(0)).value == 1


def test_nothing_differs():
    same = {0: np.array([1.0, 0.0]), 1: np.array([0.0, 1.0])}
    found = difference_over_seeds(same, same, RNG(0))
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_mean_lies_in_its_interval_and_more_seeds_narrow_it():
    rng = RNG(3)
    values = np.stack(list(answers(rng, 8, 400).values()))
    few, many = mean_over_seeds(values[:2]), mean_over_seeds(values)
    for found in (few, many):
        assert found.low < found.value < found.high and np.isnan(found.p)
    assert many.high - many.low < few.high - few.low
    assert mean_over_seeds(values[:1]).num_seeds == 1


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 x 0.01; 2 x 0.03; max(0.06, 1 x 0.04)
        ([0.5, 0.9], [1.0, 1.0]),
    ],
)
def test_holm_by_hand(p_values, expected):
    assert holm(p_values) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True)) and max(adjusted) <= 1
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ({}, {0: [1.0]}, r"ours has shape .* should be \(S, N\)"),
        ({0: [1.0, 2.0]}, {0: [1.0]}, "ours has 2 examples, theirs 1"),
        ({0: [np.nan]}, {0: [1.0]}, "ours has 1 values that are not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(ours, theirs, message):
    with pytest.raises(ValueError, match=message):
        difference_over_seeds(ours, theirs, RNG(0))
