"""Order and ranks: .venv/bin/pytest tests/numerics/test_ranking.py"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from s2l_ray.numerics.ranking import ascending_order, mean_ranks

FEW = st.lists(st.sampled_from([-2.5, -1e-40, -0.0, 0.0, 1e-40, 1.0, 3e38, -3e38]), min_size=1, max_size=50)
VALUES = (FEW | st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50)).map(
    lambda values: np.array(values, dtype=np.float32))


@settings(deadline=None)
@given(VALUES)
def test_the_order_is_that_of_a_stable_sort(values):
    assert ascending_order(values).tolist() == np.argsort(values, kind="stable").tolist()


@settings(deadline=None)
@given(VALUES)
def test_equal_values_share_the_mean_of_their_ranks(values):
    assert mean_ranks(values).tolist() == (rankdata(values) - 1).tolist()


def test_ranks_by_hand():
    # Ascending 1, 2, 2, 5: ranks 0, then 1 and 2 shared as 1.5, then 3.
    assert mean_ranks(np.array([2, 5, 1, 2], dtype=np.float32)).tolist() == [1.5, 3, 0, 1.5]
