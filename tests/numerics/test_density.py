"""Kernel sums, exact and hashed, and draws by their inverse: .venv/bin/pytest tests/numerics/test_density.py"""

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from s2l_ray.numerics.density import (
    collision_probability,
    kernel_sums,
    median_distance,
    sample_by_weight,
    sketched_kernel_sums,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def crowds(sizes=(300, 100, 20), width=8):
    centres = rng(1).normal(size=(len(sizes), width))
    return unit(np.repeat(centres, sizes, axis=0) + 0.1 * rng(2).normal(size=(sum(sizes), width)))


def test_collision_probability_by_hand():
    # u = 1: erf(1/sqrt 2) = 0.6827; sqrt(2/pi) (1 - exp(-1/2)) = 0.7979 * 0.3935 = 0.3139; difference 0.3687.
    assert collision_probability(np.array([0, 1])) == pytest.approx([1, 0.3687], abs=1e-4)
    # Far rows: p(u) -> 1 / (u sqrt(2 pi)) = 0.0399 at u = 10.
    assert collision_probability(np.array([10.0])) == pytest.approx(1 / (10 * math.sqrt(2 * math.pi)), rel=1e-2)


def test_collision_probability_is_that_of_the_hash():
    draws, offsets = rng().normal(size=200_000), rng(1).random(200_000)
    for width in (0.3, 1, 3):
        equal = np.floor(draws * width + offsets) == np.floor(offsets)
        assert equal.mean() == pytest.approx(float(collision_probability(np.array([width]))[0]), abs=0.005)


def test_sums_of_three_rows_by_hand():
    # x = y = (1, 0), z = (0, 1), bandwidth sqrt 2: k(x, y) = 1, k(x, z) = p(1)^4 = 0.3687^4 = 0.01849.
    sums = kernel_sums(unit([[1, 0], [1, 0], [0, 1]]), math.sqrt(2))
    assert sums == pytest.approx([2.01849, 2.01849, 1.03697], abs=2e-4)


@pytest.mark.parametrize("count", [1, 50, 3000])  # 3000 rows take three blocks
def test_sums_are_those_of_all_pairs(count):
    rows = unit(rng().normal(size=(count, 5)))
    some = np.linspace(0, count - 1, min(count, 50)).astype(int)
    apart = np.sqrt(np.maximum(2 - 2 * rows[some].astype(float) @ rows.T, 0))
    apart[np.arange(len(some)), some] = 0
    expected = (collision_probability(apart / 0.7) ** 4).sum(axis=1)
    assert kernel_sums(rows, 0.7)[some] == pytest.approx(expected, rel=1e-3)


def test_the_sketch_estimates_the_same_sums():
    rows = crowds()
    exact, sketch = kernel_sums(rows, 0.8), sketched_kernel_sums(rows, 0.8, rng())
    assert exact.max() / exact.min() > 3, "a case with dense and sparse regions"
    # Relative deviation of one table is about 1, so 512 tables give 1/23 = 0.04.
    assert np.abs(sketch / exact - 1).mean() < 0.05
    assert np.abs(sketch / exact - 1).max() < 0.25
    assert np.corrcoef(np.log(sketch), np.log(exact))[0, 1] > 0.98


def test_the_sketch_is_unbiased():
    rows = crowds((60, 10))
    estimates = [sketched_kernel_sums(rows, 0.8, rng(seed), 128).mean() for seed in range(12)]
    spread = np.std(estimates) / math.sqrt(12)
    assert np.mean(estimates) == pytest.approx(kernel_sums(rows, 0.8).mean(), abs=4 * spread)


def test_equal_rows_all_count():
    rows = np.tile(unit(rng().normal(size=(1, 384))), (500, 1))
    assert kernel_sums(rows, 1.0) == pytest.approx(500)
    assert sketched_kernel_sums(rows, 1.0, rng(), 64) == pytest.approx(500, abs=0.01)
    assert median_distance(rows, rng()) == 1


def test_median_distance_leaves_equal_rows_out():
    # Distances of (1,0), (1,0), (0,1): 0 (left out), sqrt 2, sqrt 2.
    assert median_distance(unit([[1, 0], [1, 0], [0, 1]]), rng()) == pytest.approx(math.sqrt(2))
    assert median_distance(unit([[1, 0]]), rng()) == 1


def test_draws_are_successive_sampling():
    # Weights 1, 2, 5: P(first = i) = w_i / 8; P(order i, j) = w_i / 8 * w_j / (8 - w_i).
    weights = np.array([1.0, 2, 5])
    random, counts = rng(), {}
    for _ in range(20_000):
        drawn = tuple(sample_by_weight(weights, 2, random).tolist())
        counts[drawn] = counts.get(drawn, 0) + 1
    for i, j in itertools.permutations(range(3), 2):
        expected = weights[i] / 8 * weights[j] / (8 - weights[i])
        assert counts[i, j] / 20_000 == pytest.approx(expected, abs=0.015)


def test_draws_are_nested():
    weights = rng().random(100) + 0.01
    whole = sample_by_weight(weights, 100, rng(3))
    assert sorted(whole) == list(range(100))
    assert np.array_equal(sample_by_weight(weights, 30, rng(3)), whole[:30])


@pytest.mark.parametrize("hashed", [False, True])
def test_memory_is_some_blocks(hashed):
    rows = unit(rng().normal(size=(10_000, 8)))
    tracemalloc.start()
    _ = sketched_kernel_sums(rows, 1.0, rng(), 32) if hashed else kernel_sums(rows, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # all pairs: 400 MB
