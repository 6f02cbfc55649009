"""How a budget is shared out: .venv/bin/pytest tests/numerics/test_allocation.py"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.numerics.allocation import largest_remainder, proportional_sample, water_filling


def test_small_groups_give_all_and_large_ones_share_the_rest():
    # B = 50: size 1 -> min(1, 50/3) = 1; size 1 -> min(1, 49/2) = 1; size 98 -> 48. Visiting the largest first
    # (a known mistake) would give 16 + 1 + 1 = 18.
    assert water_filling(np.array([98, 1, 1]), 50).tolist() == [48, 1, 1]


def test_budget_below_the_number_of_groups_leaves_the_smallest_empty():
    # B = 2, K = 4: shares 2//4 = 0, 2//3 = 0, 2//2 = 1, 1//1 = 1.
    assert water_filling(np.array([10, 20, 30, 40]), 2).tolist() == [0, 0, 1, 1]


def test_more_than_there_is_is_refused():
    with pytest.raises(InputError, match=r"budget=7 must be between 0 and the number of candidates, 6"):
        water_filling(np.array([3, 3]), 7)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=40), st.floats(0, 1))
def test_quotas_follow_the_paper_and_equal_the_water_level(sizes, share):
    sizes = np.array(sizes)
    budget = int(share * sizes.sum())
    quotas = water_filling(sizes, budget)
    assert quotas.sum() == budget
    assert (quotas <= sizes).all() and (quotas >= 0).all()
    # Closed form: the level tau with sum(min(size, tau)) = B, up to one example of rounding for each group.
    levels = np.array([np.minimum(sizes, tau).sum() for tau in range(int(sizes.max(initial=0)) + 1)])
    tau = int(np.searchsorted(levels, budget, side="right")) - 1
    assert np.abs(quotas - np.minimum(sizes, tau)).max() <= 1


def test_largest_remainders_get_what_rounding_down_leaves():
    # 10 x (1, 2, 4) / 7 = 1.43, 2.86, 5.71: whole parts 1 + 2 + 5 = 8, the two left go to .86 and .71.
    assert largest_remainder(np.array([1, 2, 4]), 10).tolist() == [1, 3, 6]
    # 2 x 1/3 each: equal remainders go by index. 1/3 and 4/3 leave the same remainder too, whatever floats say.
    assert largest_remainder(np.array([1, 1, 1]), 2).tolist() == [1, 1, 0]
    assert largest_remainder(np.array([1, 4, 1]), 2).tolist() == [1, 1, 0]


def test_what_a_full_group_leaves_is_shared_in_proportion():
    # 12 x (6, 2, 1) / 9 = 8, 2.67, 1.33, but the first holds 3: 9 remain for 2 : 1, which makes 6 and 3.
    assert largest_remainder(np.array([6, 2, 1]), 12, np.array([3, 9, 9])).tolist() == [3, 6, 3]
    # And in turn: the second holds 4, so the third takes 5.
    assert largest_remainder(np.array([6, 2, 1]), 12, np.array([3, 4, 9])).tolist() == [3, 4, 5]


def test_a_group_without_weight_gets_nothing():
    assert largest_remainder(np.array([0, 1.5]), 4).tolist() == [0, 4]
    with pytest.raises(InputError, match=r"budget=4 must be between 0 and the number of candidates, 3"):
        largest_remainder(np.array([0, 1.5]), 4, np.array([9, 3]))


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0.01, 1e6)), min_size=1, max_size=40), st.floats(0, 1))
def test_proportional_quotas_spend_the_budget_within_capacities(groups, share):
    capacities, weights = (np.array(column) for column in zip(*groups, strict=True))
    budget = int(share * capacities.sum())
    quotas = largest_remainder(weights, budget, capacities)
    assert quotas.sum() == budget
    assert (quotas >= 0).all() and (quotas <= capacities).all()
    # Closed form: min(capacity, level * weight), so groups with room left stand at one level, up to one example.
    room = quotas < capacities
    low, high = (quotas[room] - 1) / weights[room], (quotas[room] + 1) / weights[room]
    assert low.max(initial=0) <= high.min(initial=np.inf) * (1 + 1e-9)
    full = capacities[~room] / weights[~room]
    assert (capacities[~room] - 1 <= high.min(initial=np.inf) * weights[~room] * (1 + 1e-9)).all(), full


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.integers(0, 10**6))
def test_unbounded_quotas_are_less_than_one_from_their_share(weights, budget):
    weights = np.array([*weights, 1])
    quotas = largest_remainder(weights, budget)
    assert quotas.sum() == budget
    assert np.abs(quotas - budget * weights / weights.sum()).max() < 1 + 1e-6


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0, 1), st.integers(0, 99))
def test_a_proportional_sample_draws_its_quotas_once_each(labels, share, seed):
    labels = np.unique(labels, return_inverse=True)[1]
    positions, sizes, quotas = proportional_sample(labels, int(share * len(labels)), np.random.default_rng(seed))
    assert len(set(positions.tolist())) == len(positions) == int(share * len(labels))
    assert np.bincount(labels[positions], minlength=len(sizes)).tolist() == quotas.tolist()


def test_a_proportional_sample_is_uniform_inside_a_group():
    labels, counts = np.array([0] * 6 + [1] * 3), np.zeros(9)
    for seed in range(3000):
        counts[proportional_sample(labels, 3, np.random.default_rng(seed))[0]] += 1
    # Quotas 2 of 6 and 1 of 3: each row in one of three; the standard deviation of a count is sqrt(3000 * 2/9) = 26.
    assert np.abs(counts - 1000).max() < 130
