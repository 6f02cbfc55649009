"""Facility location as a selector: .venv/bin/pytest tests/selectors/test_facility_location.py"""

import numpy as np
import pyarrow as pa
import pytest

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.facility_location import FacilityLocation
from s2l_ray.selectors.pool import Pool


def select(rows, budget, seed=0, **parameters):
    rows = np.asarray(rows, dtype=np.float32)
    ids = pa.array([f"e{i:05d}" for i in range(len(rows))])
    pool = Pool(ids, embeddings_ND=rows / np.linalg.norm(rows, axis=1, keepdims=True))
    config = SelectionConfig(selector="facility_location", **parameters)
    return FacilityLocation().select(pool, budget, config, np.random.default_rng(seed))


def test_each_group_gives_its_middle_the_largest_first():
    # Groups of 40, 20 and 10 about three axes, 64 neighbours: the first three are one of each, by size.
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(3) * 10, (40, 20, 10), axis=0) + rng.normal(size=(70, 3))
    choice = select(rows, 3, num_neighbours=10)
    assert np.digitize(choice.positions_B, [40, 60]).tolist()[0] == 0
    assert sorted(np.digitize(select(rows, 3).positions_B, [40, 60])) == [0, 1, 2]


def test_scores_are_gains_and_the_fact_is_their_mean():
    rows = np.random.default_rng(0).normal(size=(100, 5))
    choice = select(rows, 30)
    assert (np.diff(choice.scores_B) <= 0).all()
    assert choice.facts["mean_similarity"] == pytest.approx(choice.scores_B.sum() / 100, abs=1e-4)
    assert select(rows, 100).facts["mean_similarity"] == pytest.approx(1, abs=1e-4)


def test_nested_and_the_same_for_every_seed():
    rows = np.random.default_rng(0).normal(size=(100, 5))
    whole = select(rows, 100).positions_B
    assert np.array_equal(select(rows, 25, seed=9).positions_B, whole[:25])


def test_one_example_and_equal_examples():
    assert select([[1, 2]], 1).positions_B.tolist() == [0]
    assert select(np.ones((20, 4)), 20).positions_B.tolist() == list(range(20))
    # With 5 neighbours row 0, the first among equals, still serves everyone.
    assert select(np.ones((20, 4)), 20, num_neighbours=5).positions_B.tolist() == list(range(20))
