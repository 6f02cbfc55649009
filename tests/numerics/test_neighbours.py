"""Nearest neighbours, exact and within cells: .venv/bin/pytest tests/numerics/test_neighbours.py"""

import tracemalloc

import numpy as np
import pytest

from s2l_ray.errors import InputError
from s2l_ray.numerics import neighbours
from s2l_ray.numerics.neighbours import isolated_rows, nearest_neighbours


def rng(seed=0):
    return np.random.default_rng(seed)


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def topics(count, width=6, num_topics=20, seed=0):
    return unit(rng(seed).normal(size=(num_topics, width))[np.arange(count) % num_topics]
                + 0.3 * rng(seed + 1).normal(size=(count, width)))


def test_neighbours_are_those_of_a_full_sort():
    rows = topics(300)
    found = nearest_neighbours(rows, 7, rng())
    cosines = rows.astype(float) @ rows.T
    expected = np.sort(np.argsort(-cosines, axis=1)[:, :7], axis=1)
    assert np.array_equal(found.positions_NK, expected)
    assert np.allclose(found.cosines_NK, np.take_along_axis(cosines, expected, 1), atol=1e-6)


def test_ties_go_to_the_lowest_position_after_the_row_itself():
    found = nearest_neighbours(unit(np.ones((6, 3))), 3, rng())
    assert found.positions_NK.tolist() == [[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 3], [0, 1, 4], [0, 1, 5]]
    assert (found.cosines_NK <= 1).all() and found.cosines_NK == pytest.approx(1)


def test_cells_find_most_of_the_exact_neighbours_and_every_row_itself():
    rows = topics(3000)
    exact = nearest_neighbours(rows, 10, rng())
    cells = nearest_neighbours(rows, 10, rng(), exact_rows=1000, cell_candidates=800)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(exact.positions_NK, cells.positions_NK, strict=True)]
    assert np.mean(shared) > 9
    assert exact.recall == 1 and cells.recall == pytest.approx(np.mean(shared) / 10, abs=0.02), "of 1000 of the 3000 rows"
    assert (cells.positions_NK == np.arange(3000)[:, None]).any(axis=1).all()
    assert (np.diff(cells.positions_NK, axis=1) > 0).all(), "no neighbour twice"


def test_recall_falls_where_rows_form_no_clusters_and_is_measured_over_all_rows():
    rows = unit(rng().normal(size=(2500, 40)))  # about nothing
    exact = nearest_neighbours(rows, 10, rng())
    cells = nearest_neighbours(rows, 10, rng(1), exact_rows=1000, cell_candidates=320)
    shared = np.mean([len(np.intersect1d(a, b)) for a, b in zip(exact.positions_NK, cells.positions_NK, strict=True)]) / 10
    assert 0.2 < shared < 0.8 and cells.recall == pytest.approx(shared, abs=0.03)


def test_a_crowd_of_equal_rows_is_cut_into_pieces():
    found = nearest_neighbours(unit(np.ones((1000, 4))), 5, rng(), exact_rows=100, cell_candidates=64)
    assert found.recall == 1, "one as near as a true neighbour is one"
    assert (found.positions_NK == np.arange(1000)[:, None]).any(axis=1).all()


def test_memory_is_some_blocks():
    rows = topics(12_000)
    tracemalloc.start()
    nearest_neighbours(rows, 5, rng())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6  # blocks of 2^23 float32: 34 MB, its partitioned copy and masks; all pairs: 576 MB


def test_more_neighbours_than_rows_are_refused():
    with pytest.raises(InputError, match="num_neighbours=5 must be between 1 and 4 for 4 examples"):
        nearest_neighbours(topics(4), 5, rng())
    with pytest.raises(InputError, match="num_neighbours=33 must be between 1 and 32"):
        nearest_neighbours(topics(400), 33, rng(), exact_rows=100, cell_candidates=64)


def test_planted_outliers_are_the_most_isolated_even_in_a_pair():
    crowd = unit(np.array([1, 0, 0]) + 0.05 * rng().normal(size=(98, 3)))
    rows = np.concatenate([crowd, unit([[0, 1, 0], [0, 1, 0]])])
    assert set(isolated_rows(rows, 0.02, rng()).tolist()) == {98, 99}
    assert len(isolated_rows(rows, 0.009, rng())) == 0, "floor(0.9) = 0"
    assert len(isolated_rows(rows, 0.5, rng())) == 50
    assert len(isolated_rows(rows[:1], 0.99, rng())) == 0


@pytest.mark.parametrize(("count", "share", "limits"), [
    (3000, 0.01, {}), (3000, 0.6, {}), (4000, 0.02, {"exact_rows": 1000, "cell_candidates": 1600}), (7, 0.5, {}), (2, 0.5, {}),
])
def test_the_most_isolated_are_those_of_a_full_search(count, share, limits):
    rows = np.concatenate([topics(count - count // 3), np.repeat(topics(1, seed=9), count // 3, axis=0)])  # and a crowd
    found = nearest_neighbours(rows, min(6, count), rng(), **limits)
    isolation = np.sort(np.sqrt(2 - 2 * found.cosines_NK), axis=1).sum(axis=1)
    wanted = int(share * count)
    isolated = isolated_rows(rows, share, rng(), **limits)
    assert len(set(isolated.tolist())) == wanted
    assert isolation[isolated] == pytest.approx(np.sort(isolation)[count - wanted :], abs=1e-3)


def test_few_outliers_cost_a_fraction_of_a_full_search(monkeypatch):
    compared, cosines = [], neighbours._cosines

    def counting(rows, queries, candidates):
        compared.append(len(queries) * len(candidates))
        return cosines(rows, queries, candidates)

    monkeypatch.setattr(neighbours, "_cosines", counting)
    isolated_rows(topics(12_000, num_topics=100), 0.01, rng())
    assert sum(compared) < 12_000 * 12_000 / 2
