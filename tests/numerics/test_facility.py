"""Lazy greedy facility location: .venv/bin/pytest tests/numerics/test_facility.py"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.numerics.facility import lazy_greedy
from s2l_ray.numerics.neighbours import nearest_neighbours


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def graph(rows, width):
    return nearest_neighbours(rows, min(width, len(rows)), np.random.default_rng(0))


def dense(neighbours):
    """Return s, (N, N): row i's similarity to its neighbours, 0 elsewhere."""
    matrix = np.zeros((len(neighbours.positions_NK),) * 2)
    np.put_along_axis(matrix, neighbours.positions_NK.astype(int), (1 + neighbours.cosines_NK) / 2, axis=1)
    return matrix


def plain_greedy(matrix, budget):
    """The definition: every gain computed again at each step; (chosen, gains, each gain's lead over the next best)."""
    best, chosen, gains, leads = np.zeros(len(matrix)), [], [], []
    while len(chosen) < budget:
        every = np.maximum(matrix - best[:, None], 0).sum(axis=0)
        every[chosen] = -1
        chosen.append(int(every.argmax()))
        gains.append(every.max())
        every[chosen[-1]] = -1
        leads.append(gains[-1] - every.max())
        best = np.maximum(best, matrix[:, chosen[-1]])
    return chosen, gains, leads


def test_two_groups_by_hand():
    # (1,0) three times and (0,1) twice; s is 1 within a group and (1 + 0) / 2 = 0.5 across. Gains at first: 3 + 2 * 0.5
    # = 4 and 2 + 3 * 0.5 = 3.5; after row 0, row 3 adds 2 * 0.5 = 1; then nothing adds, and the rest goes by position.
    found = lazy_greedy(graph(unit([[1, 0]] * 3 + [[0, 1]] * 2), 5), 5)
    assert found.positions_B.tolist() == [0, 3, 1, 2, 4]
    assert found.gains_B == pytest.approx([4, 1, 0, 0, 0], abs=1e-6)


def test_neighbours_count_one_way_as_f_says():
    # At 0, 20 and 90 degrees with 2 neighbours each (itself and the nearest): 90 is served by 20, 20 by 0 alone. So 20
    # serves all three (a sum over its own neighbours, 0 and itself, would miss 90): 1 + (1 + cos 20)/2 + (1 + cos 70)/2.
    angles = np.radians([0, 20, 90])
    found = lazy_greedy(graph(unit(np.stack([np.cos(angles), np.sin(angles)], axis=1)), 2), 1)
    assert found.positions_B.tolist() == [1]
    assert found.gains_B[0] == pytest.approx(1 + (1 + np.cos(angles[1])) / 2 + (1 + np.cos(np.radians(70))) / 2, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.floats(0.01, 1), st.integers(0, 1000))
def test_lazy_is_plain_greedy(count, width, share, seed):
    neighbours = graph(unit(np.random.default_rng(seed).normal(size=(count, 4))), width)
    budget = max(1, int(share * count))
    found = lazy_greedy(neighbours, budget)
    matrix = dense(neighbours)
    chosen, gains, leads = plain_greedy(matrix, budget)
    assert found.gains_B == pytest.approx(gains, abs=1e-4)
    assert (np.diff(found.gains_B) <= 0).all()
    assert len(set(found.positions_B.tolist())) == budget
    assert matrix[:, found.positions_B].max(axis=1).sum() == pytest.approx(found.gains_B.sum(), abs=1e-3)
    # Up to the first near-tie: which of two it takes is then rounding's, and so is all that follows.
    clear = next((i for i, lead in enumerate(leads) if lead < 1e-3), budget)
    assert found.positions_B[:clear].tolist() == chosen[:clear]


def test_it_is_within_the_bound_of_the_best():
    for seed in range(10):
        neighbours = graph(unit(np.random.default_rng(seed).normal(size=(12, 3))), 6)
        matrix = dense(neighbours)
        best = max(matrix[:, list(s)].max(axis=1).sum() for s in itertools.combinations(range(12), 3))
        assert lazy_greedy(neighbours, 3).gains_B.sum() >= (1 - 1 / np.e) * best - 1e-6


def test_smaller_budgets_are_nested():
    neighbours = graph(unit(np.random.default_rng(0).normal(size=(400, 8))), 20)
    whole = lazy_greedy(neighbours, 400).positions_B
    assert sorted(whole) == list(range(400))
    assert np.array_equal(lazy_greedy(neighbours, 60).positions_B, whole[:60])
