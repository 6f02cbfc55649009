"""When the clusters of trajectories have settled: .venv/bin/pytest tests/selectors/test_stability.py"""

import numpy as np
import pytest

from s2l_ray.selectors.stability import have_settled, seed_stability


def noisy_groups(settles, num_points, num_rows=600):
    """Twelve levels that are noise before a point and clear from it on."""
    rng = np.random.default_rng(0)
    losses = rng.normal(5, 3, (num_rows, num_points))
    levels = (np.arange(num_rows) % 12)[:, None] * 40.0
    losses[:, settles:] = levels + rng.normal(0, 0.01, (num_rows, 1))
    return losses.astype(np.float32)


def test_points_that_repeat_what_is_known_settle_the_clusters():
    # Of one seed, clusters of equal columns are the same: 1.0, and no two seeds can agree better.
    rows = np.random.default_rng(1).gamma(2.0, size=(400, 1)).repeat(5, axis=1).astype(np.float32)
    assert [have_settled(rows[:, :count]) for count in (1, 2, 3, 4, 5)] == [False, False, True, True, True]


def test_points_of_noise_do_not():
    # Each column is another draw: clusters of three columns are not those of two.
    rows = np.random.default_rng(2).gamma(2.0, size=(600, 6)).astype(np.float32)
    assert not any(have_settled(rows[:, :count]) for count in range(1, 7))


def test_two_points_after_the_groups_have_parted_are_enough_and_one_is_not():
    rows = noisy_groups(settles=3, num_points=6)
    assert not have_settled(rows[:, :4]), "the point that parts them changes the clusters"
    assert not have_settled(rows[:, :5]), "one in a row"
    assert have_settled(rows)


@pytest.mark.parametrize("asked", [{4}, {"auto"}, {3, 7}])
def test_seeds_are_compared_for_each_number_of_clusters(asked):
    found = seed_stability(np.random.default_rng(3).random((72, 2)), asked)
    assert [one["num_clusters"] for one in found] == sorted(6 if count == "auto" else count for count in asked)  # sqrt(36)
    assert all(one["low"] <= one["mean"] <= one["high"] <= 1 and one["num_seeds"] == 5 for one in found)
