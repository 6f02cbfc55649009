"""Which cluster a row is in: recorded for the chosen ones, recomputed for the rest."""

import numpy as np
import pyarrow as pa

from s2l_ray.report.members import read_members
from s2l_ray.report.pool import PoolSample
from s2l_ray.tables.schemas import SELECTION

PARAMETERS = {"include_initial": False, "normalise": "none"}


def sample_of(losses, sources, chosen=()):
    """A sample of these rows; `chosen` is (row, cluster, distance) of each selected one."""
    places = np.full(len(losses), -1)
    for place, (row, _, _) in enumerate(chosen):
        places[row] = place
    ids = pa.array([str(row) for row in range(len(losses))])
    count = len(chosen)
    selection = pa.table([list(range(count)), [str(row) for row, _, _ in chosen], [k for _, k, _ in chosen],
                          [1] * count, [d for _, _, d in chosen], [None] * count], schema=SELECTION)
    ones = np.ones(len(losses), dtype=int)
    return PoolSample(None, "pool", len(losses), ids, np.array(sources, dtype=object), ones, ones,
                      np.array(losses, dtype=np.float32), np.array([0.0, 1.0]), ones, ones, ones > 0, places >= 0,
                      ones < 0, places, selection)


def cluster(number, centroid, source=None, size=2):
    return {"cluster": number, "centroid": [centroid], "source": source, "size": size, "quota": 1}


def test_rows_go_to_the_nearest_centroid_on_the_clustered_points():
    # Point 0 (9.0 for all) is not clustered on, so a centroid has one number.
    sample = sample_of([[9, 1.0], [9, 1.4], [9, 3.0]], ["a"] * 3)
    found = read_members(sample, {"clusters": [cluster(0, 1.0), cluster(1, 3.0)]}, PARAMETERS)
    assert found.labels_M.tolist() == [0, 0, 1]
    assert np.allclose(found.distances_M, [0, 0.4, 0])


def test_what_the_selection_recorded_counts_for_chosen_rows():
    sample = sample_of([[9, 1.0], [9, 1.9]], ["a"] * 2, chosen=[(1, 1, 1.1)])  # between the two, once in the other
    found = read_members(sample, {"clusters": [cluster(0, 1.0), cluster(1, 3.0)]}, PARAMETERS)
    assert found.labels_M.tolist() == [0, 1] and np.allclose(found.distances_M, [0, 1.1])


def test_clusters_of_a_source_take_its_rows_alone():
    sample = sample_of([[9, 1.0], [9, 1.0], [9, 5.0]], ["a", "b", "a"])
    clusters = [cluster(0, 1.0, "a"), cluster(1, 4.0, "b"), cluster(2, 6.0, "a"), cluster(3, 1.0, "b", size=0)]
    found = read_members(sample, {"clusters": clusters}, PARAMETERS)
    assert found.labels_M.tolist() == [0, 1, 2]  # row 1 is far from its source's one cluster that has members


def test_clusters_without_centroids_are_known_for_chosen_rows_alone():
    sample = sample_of([[9, 1.0], [9, 1.9]], ["a"] * 2, chosen=[(0, 7, 0.2)])
    found = read_members(sample, {"clusters": [{"cluster": 7, "size": 2, "quota": 1}]}, PARAMETERS)
    assert found.labels_M.tolist() == [7, -1] and not found.has_trajectories
