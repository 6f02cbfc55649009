"""Bins of the mean loss, by hand: .venv/bin/pytest tests/selectors/test_loss_bins.py"""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.loss_bins import bins_of
from s2l_ray.selectors.pool import Pool


def select(losses_NC, budget, fractions=None, seed=0, **parameters):
    losses = np.asarray(losses_NC, dtype=np.float32)
    pool = Pool(pa.array([f"e{i:05d}" for i in range(len(losses))]), losses_NC=losses,
                fractions_C=None if fractions is None else np.array(fractions))
    return SELECTORS.find("loss_bins").select(pool, budget, SelectionConfig(**parameters), np.random.default_rng(seed))


def test_bins_by_hand():
    # Means 1, 2, 2.4, 5 of 4 bins from 1 to 5, one wide: 1 -> 0, 2 and 2.4 -> 1, 5 -> the last.
    assert bins_of(np.array([1.0, 2.0, 2.4, 5.0]), 4).tolist() == [0, 1, 1, 3]
    assert bins_of(np.full(3, 2.0), 4).tolist() == [0, 0, 0]


def test_the_order_in_which_a_loss_fell_does_not_matter_and_each_bin_gives_the_same():
    # Means of 10 rows near 1, 4 near 3 and 2 near 5, bins 1 to 3.7 to ... of width 4/3: sizes 10, 4, 2 and budget 9:
    # 2 -> 2 (9//3 = 3), 4 -> 3 (7//2), 10 -> 4.
    losses = [[1, 1]] * 5 + [[2, 0]] * 5 + [[3, 3], [6, 0], [0, 6], [3, 3]] + [[5, 5], [10, 0]]
    choice = select(losses, 9, num_clusters=3)
    assert [(c["cluster"], c["size"], c["quota"]) for c in choice.facts["clusters"]] == [(2, 2, 2), (1, 4, 3), (0, 10, 4)]
    assert choice.clusters_B.tolist() == [2] * 2 + [1] * 3 + [0] * 4 and choice.quotas_B.tolist() == [2] * 2 + [3] * 3 + [4] * 4
    assert choice.scores_B.tolist() == [-5.0] * 2 + [-3.0] * 3 + [-1.0] * 4
    assert choice.facts["clusters"][0]["mean_losses"] == [7.5, 2.5]


def test_the_untouched_model_counts_only_where_it_is_asked_to():
    losses = [[9, 1], [0, 1], [0, 3]]
    assert select(losses, 2, fractions=[0, 1], num_clusters=2).facts["clusters"][0]["size"] == 1  # means 1, 1, 3
    told = select(losses, 3, fractions=[0, 1], num_clusters=2, include_initial=True)  # means 5, 0.5, 1.5
    assert sorted(told.scores_B.tolist()) == [-5.0, -1.5, -0.5]


@given(st.lists(st.floats(0, 20, width=32), min_size=1, max_size=40), st.integers(1, 9))
def test_bins_are_of_equal_width_and_ascend_with_the_values(values, num_bins):
    values_N = np.array(values, dtype=np.float64)
    bins = bins_of(values_N, num_bins)
    assert bins.min() >= 0 and bins.max() < num_bins
    order = np.argsort(values_N, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    width = (values_N.max() - values_N.min()) / num_bins
    if width > 1e-6:
        assert bins[np.argmax(values_N)] == num_bins - 1 and bins[np.argmin(values_N)] == 0
        for own in np.unique(bins):
            assert np.ptp(values_N[bins == own]) <= width * (1 + 1e-9)
