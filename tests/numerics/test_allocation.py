"""How a budget is shared out: .venv/bin/pytest tests/numerics/test_allocation.py"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.numerics.allocation import water_filling


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
