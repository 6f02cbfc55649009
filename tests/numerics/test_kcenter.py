"""Greedy k-center against its definition: .venv/bin/pytest tests/numerics/test_kcenter.py"""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.numerics.kcenter import greedy_k_center


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_unit(count, width=8, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(count, width)))


def on_circle(*degrees):
    angles = np.radians(degrees)
    return unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))


def centres(rows, budget, seed=0, last_resort=None):
    return greedy_k_center(rows, budget, np.random.default_rng(seed), last_resort)


def farthest_first(rows, budget, first):
    """The definition, in double loops."""
    chosen = [first]
    while len(chosen) < budget:
        gaps = [min(np.linalg.norm(row.astype(float) - rows[c]) for c in chosen) for row in rows]
        gaps = [-1 if i in chosen else gap for i, gap in enumerate(gaps)]
        chosen.append(int(np.argmax(gaps)))
    return chosen


def test_the_farthest_follows_by_hand():
    # At 0, 10, 80 and 180 degrees; chord = 2 sin(angle / 2). From 0: farthest is 180 (2.0), then 80 (2 sin 40 = 1.2856,
    # nearer to 0 than to 180), then 10 (2 sin 5 = 0.1743).
    rows = on_circle(0, 10, 80, 180)
    seed = next(seed for seed in range(100) if centres(rows, 1, seed).positions_B[0] == 0)
    found = centres(rows, 4, seed)
    assert found.positions_B.tolist() == [0, 3, 2, 1]
    assert found.distances_B == pytest.approx([2, 2, 1.2856, 0.1743], abs=1e-4)
    assert centres(rows, 2, seed).radius == pytest.approx(1.2856, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(2, 6), st.floats(0.01, 1), st.integers(0, 1000))
def test_it_is_the_definition(count, width, share, seed):
    rows = random_unit(count, width, seed)
    found = centres(rows, max(1, int(share * count)), seed)
    assert found.positions_B.tolist() == farthest_first(rows, len(found.positions_B), int(found.positions_B[0]))


def test_blocks_give_what_one_centre_at_a_time_gives():
    rows = random_unit(2000, 16)  # more rows than a block of candidates
    found = centres(rows, 300)
    gaps = np.full(len(rows), 9.0)
    expected = [int(found.positions_B[0])]
    for _ in range(299):
        gaps = np.minimum(gaps, np.linalg.norm(rows.astype(float) - rows[expected[-1]], axis=1))
        expected.append(int(gaps.argmax()))
    assert found.positions_B.tolist() == expected
    assert (np.diff(found.distances_B) <= 1e-6).all()


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_the_radius_is_at_most_twice_the_best(budget):
    for seed in range(10):
        rows = random_unit(10, 3, seed)
        apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
        best = min(apart[:, list(picked)].min(axis=1).max() for picked in itertools.combinations(range(10), budget))
        assert centres(rows, budget, seed).radius <= 2 * best + 1e-6


def test_smaller_budgets_are_nested():
    rows = random_unit(1500, 12)
    whole = centres(rows, 1500).positions_B
    assert sorted(whole) == list(range(1500))
    for budget in (1, 2, 100, 257, 999):
        assert np.array_equal(centres(rows, budget).positions_B, whole[:budget])


def test_equal_rows_follow_by_position_after_the_first():
    found = centres(np.tile(random_unit(1, 384), (700, 1)), 500)
    first = int(found.positions_B[0])
    assert found.positions_B[1:].tolist() == [i for i in range(700) if i != first][:499]
    assert (found.distances_B[1:] == 0).all() and found.radius == 0


def test_rows_of_last_resort_come_last_and_in_their_order():
    rows = random_unit(20)
    found = centres(rows, 20, last_resort=np.array([7, 3]))
    assert found.positions_B[-2:].tolist() == [7, 3] and found.distances_B[-2:].tolist() == [0, 0]
    assert not {3, 7} & set(centres(rows, 18, last_resort=np.array([7, 3])).positions_B.tolist())
    assert centres(rows[:2], 1, last_resort=np.array([1, 0])).positions_B.tolist() == [1]


def test_memory_stays_far_below_all_pairs():
    rows = random_unit(20_000, 16)
    tracemalloc.start()
    centres(rows, 400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6 < 20_000**2 * 4 / 50  # all pairs: 1.6 GB
