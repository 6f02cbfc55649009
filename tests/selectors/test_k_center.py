"""Greedy k-center as a selector: .venv/bin/pytest tests/selectors/test_k_center.py"""

import numpy as np
import pyarrow as pa

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.k_center import KCenter
from s2l_ray.selectors.pool import Pool


def pool_of_rows(rows):
    rows = np.asarray(rows, dtype=np.float32)
    ids = pa.array([f"e{i:05d}" for i in range(len(rows))])
    return Pool(ids, embeddings_ND=rows / np.linalg.norm(rows, axis=1, keepdims=True))


def select(rows, budget, seed=0, **parameters):
    config = SelectionConfig(selector="k_center", **parameters)
    return KCenter().select(pool_of_rows(rows), budget, config, np.random.default_rng(seed))


def crowd_and_stray():
    """99 rows about (1, 0, 0), spread, and one opposite."""
    crowd = np.array([1, 0, 0]) + 0.3 * np.random.default_rng(0).normal(size=(99, 3))
    return np.concatenate([crowd, [[-1, 0, 0]]])


def test_an_outlier_is_left_out_until_the_budget_needs_it():
    rows = crowd_and_stray()
    assert 99 in select(rows, 3, outlier_share=0).positions_B[:2]  # the farthest of all, so second at the latest
    guarded = select(rows, 99, outlier_share=0.01)  # floor(0.01 * 100) = 1 is set aside
    assert 99 not in guarded.positions_B and guarded.facts["outliers_set_aside"] == 1
    assert select(rows, 100, outlier_share=0.01).positions_B[-1] == 99


def test_scores_fall_and_the_radius_is_the_next_score():
    rows = np.random.default_rng(0).normal(size=(200, 5))
    choice, longer = select(rows, 20, outlier_share=0), select(rows, 21, outlier_share=0)
    assert choice.scores_B[0] == 2 and (np.diff(choice.scores_B) <= 1e-6).all()
    assert abs(choice.facts["radius"] - longer.scores_B[20]) < 1e-4


def test_the_first_centre_is_drawn_with_the_seed():
    rows = np.random.default_rng(0).normal(size=(50, 5))
    assert len({int(select(rows, 1, seed).positions_B[0]) for seed in range(30)}) > 10
    assert np.array_equal(select(rows, 10, 4).positions_B, select(rows, 10, 4).positions_B)


def test_one_example_and_equal_examples():
    assert select([[1, 2]], 1).positions_B.tolist() == [0]
    assert sorted(select(np.ones((30, 4)), 30, outlier_share=0.5).positions_B) == list(range(30))
