"""Density sampling as a selector: .venv/bin/pytest tests/selectors/test_density.py"""

import numpy as np
import pyarrow as pa
import pytest

from s2l_ray.errors import InputError
from s2l_ray.numerics.density import kernel_sums
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods import density
from s2l_ray.selectors.pool import Pool


def crowd_and_few():
    """90 rows crowded about one direction, and 10 that lie apart."""
    rng = np.random.default_rng(0)
    few = np.linalg.qr(rng.normal(size=(11, 11)))[0]
    return np.concatenate([few[0] + 0.01 * rng.normal(size=(90, 11)), few[1:]])


def select(rows, budget, seed=0, **parameters):
    rows = np.asarray(rows, dtype=np.float32)
    ids = pa.array([f"e{i:05d}" for i in range(len(rows))])
    pool = Pool(ids, embeddings_ND=rows / np.linalg.norm(rows, axis=1, keepdims=True))
    config = SelectionConfig(selector="density", **parameters)
    return density.Density().select(pool, budget, config, np.random.default_rng(seed))


def test_rare_rows_are_drawn_by_their_inverse_density():
    # Bandwidth 0.1: far rows (distance sqrt 2, 14 widths) add 0.028^4 = 6e-7, so a rare row's sum is 1 and a crowded
    # one's S, at most 90. The first draw is rare with probability 10 / (10 + 90 / S).
    rows = crowd_and_few()
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    sums = kernel_sums(unit, 0.1)
    assert sums[90:] == pytest.approx(1, abs=1e-3) and sums[:90].min() > 9
    rare = np.mean([select(rows, 1, seed, bandwidth=0.1).positions_B[0] >= 90 for seed in range(150)])
    assert rare == pytest.approx((1 / sums[90:]).sum() / (1 / sums).sum(), abs=0.12)
    choice = select(rows, 5, bandwidth=0.1)
    assert choice.scores_B == pytest.approx(1 / sums[choice.positions_B], rel=1e-3)


def test_the_sketch_finds_the_same_densities(monkeypatch):
    exact = select(crowd_and_few(), 12, bandwidth=0.5)
    monkeypatch.setattr(density, "EXACT_ROWS", 50)
    sketched = select(crowd_and_few(), 12, bandwidth=0.5)
    assert exact.facts["exact"] and not sketched.facts["exact"]
    assert sketched.facts["density_quartiles"] == pytest.approx(exact.facts["density_quartiles"], rel=0.15)


def test_draws_are_nested_for_one_seed():
    rows = np.random.default_rng(0).normal(size=(80, 6))
    whole = select(rows, 80, 3).positions_B
    assert sorted(whole) == list(range(80))
    assert np.array_equal(select(rows, 9, 3).positions_B, whole[:9])
    assert not np.array_equal(select(rows, 9, 4).positions_B, whole[:9])


def test_equal_examples_are_drawn_uniformly():
    firsts = [int(select(np.ones((5, 3)), 1, seed).positions_B[0]) for seed in range(150)]
    assert np.bincount(firsts, minlength=5) / 150 == pytest.approx(0.2, abs=0.12)
    assert select([[1, 2]], 1).positions_B.tolist() == [0]


def test_a_bandwidth_below_the_resolution_is_refused():
    with pytest.raises(InputError, match=r"bandwidth=0\.0001 must be at least 0\.001"):
        select(np.eye(3), 1, bandwidth=1e-4)
