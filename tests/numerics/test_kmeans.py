"""k-means on a bounded sample: .venv/bin/pytest tests/numerics/test_kmeans.py"""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from s2l_ray.errors import InputError
from s2l_ray.numerics.kmeans import cluster_rows, nearest_centroids, resolve_num_clusters
from s2l_ray.tables import chunked_table


def rng(seed=0):
    return np.random.default_rng(seed)


def blobs(sizes=(300, 200, 100), dimensions=3):
    centres = rng(1).normal(0, 20, (len(sizes), dimensions))
    truth = np.repeat(np.arange(len(sizes)), sizes)
    rows = centres[truth] + rng(2).normal(0, 0.1, (len(truth), dimensions))
    return rows.astype(np.float32), truth


def test_well_parted_groups_are_found_with_their_means_and_distances():
    rows, truth = blobs()
    found = cluster_rows(rows, 3, rng(), fit_rows=10_000, iterations=20)
    for group in range(3):
        labels = np.unique(found.labels_N[truth == group])
        assert len(labels) == 1
        assert np.allclose(found.centroids_KC[labels[0]], rows[truth == group].mean(axis=0), atol=1e-3)
    expected = np.linalg.norm(rows - found.centroids_KC[found.labels_N], axis=1)
    assert np.allclose(found.distances_N, expected, atol=1e-4)


def test_a_fitting_sample_finds_the_same_groups_as_all_rows():
    rows, _ = blobs()
    whole = cluster_rows(rows, 3, rng(), fit_rows=10_000, iterations=20).labels_N
    sampled = cluster_rows(rows, 3, rng(), fit_rows=60, iterations=20).labels_N
    assert len(set(zip(whole.tolist(), sampled.tolist(), strict=True))) == 3  # one-to-one


def test_inertia_is_that_of_scikit_learn_on_the_same_rows():
    rows = rng(3).random((500, 5)).astype(np.float32)
    ours = cluster_rows(rows, 8, rng(), fit_rows=500, iterations=50)
    theirs = KMeans(8, n_init=1, max_iter=50, random_state=0).fit(rows)
    assert float((ours.distances_N**2).sum()) <= 1.1 * theirs.inertia_


def test_same_seed_same_clusters():
    rows = rng(4).random((400, 4)).astype(np.float32)
    first, second = (cluster_rows(rows, 10, rng(7), fit_rows=100, iterations=10) for _ in range(2))
    assert np.array_equal(first.labels_N, second.labels_N)


def test_equal_rows_make_one_non_empty_cluster():
    found = cluster_rows(np.ones((20, 4), dtype=np.float32), 5, rng(), fit_rows=100, iterations=10)
    assert len(np.unique(found.labels_N)) == 1


def test_more_clusters_than_rows_is_refused():
    with pytest.raises(InputError, match="num_clusters=5 must be between 1 and the number of examples, 4"):
        cluster_rows(np.zeros((4, 2), dtype=np.float32), 5, rng(), fit_rows=10, iterations=5)


@pytest.mark.parametrize(("num_rows", "expected"), [(1, 1), (2, 1), (50, 5), (20_000, 100), (2_000_000, 1000), (10**9, 1000)])
def test_auto_is_the_root_of_half_the_rows(num_rows, expected):
    assert resolve_num_clusters("auto", num_rows) == expected


def test_a_number_of_clusters_stands_if_there_are_rows_enough():
    assert resolve_num_clusters(7, 7) == 7
    with pytest.raises(InputError, match=r"selection.num_clusters=8 exceeds the 7 examples: lower it, or set it to auto"):
        resolve_num_clusters(8, 7)


def test_a_row_has_one_cluster_and_distance_whatever_stands_beside_it():
    # Many rows on the border of two centroids: which side rounding takes must not depend on the block.
    random = rng(5)
    centroids = random.random((40, 12)).astype(np.float32) * 5
    middles = (centroids[random.integers(0, 40, 3000)] + centroids[random.integers(0, 40, 3000)]) / 2
    rows = np.concatenate([middles, centroids, random.random((2000, 12), dtype=np.float32) * 5])
    labels, distances = nearest_centroids(rows, centroids)
    for start in range(0, len(rows), 7):  # alone, and in the middle of others
        one, near = nearest_centroids(rows[start : start + 1], centroids)
        assert one[0] == labels[start] and near[0] == distances[start]
    order = random.permutation(len(rows))
    mixed_labels, mixed_distances = nearest_centroids(np.asfortranarray(rows[order]), centroids)
    assert np.array_equal(mixed_labels, labels[order]) and np.array_equal(mixed_distances, distances[order])


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1, 1000), (1e-3, 0), (1e6, 0)])
def test_labels_and_distances_are_those_of_double_precision(scale, offset):
    random = rng(6)
    rows = (random.random((4000, 9)) * scale + offset).astype(np.float32)
    centroids = (random.random((30, 9)) * scale + offset).astype(np.float32)
    labels, distances = nearest_centroids(rows, centroids)
    apart = np.linalg.norm(rows[:, None].astype(np.float64) - centroids, axis=2)
    assert np.array_equal(labels, apart.argmin(axis=1))
    assert distances == pytest.approx(apart.min(axis=1), rel=1e-4)


def test_of_equal_centroids_the_first_takes_all():
    centroids = np.array([[5, 5], [1, 1], [1, 1], [1, 1]], dtype=np.float32)
    assert nearest_centroids(np.ones((100, 2), dtype=np.float32), centroids)[0].tolist() == [1] * 100


def test_one_thread_or_two_give_the_same_bits(monkeypatch):
    rows = rng(7).random((600_000, 4)).astype(np.float32)  # three blocks
    found = []
    for at_once in (1, 2, 3):
        monkeypatch.setattr(chunked_table, "_AT_ONCE", at_once)
        found.append(cluster_rows(rows, 9, rng(), fit_rows=2000, iterations=10))
    for other in found[1:]:
        assert np.array_equal(other.labels_N, found[0].labels_N)
        assert np.array_equal(other.distances_N, found[0].distances_N)
