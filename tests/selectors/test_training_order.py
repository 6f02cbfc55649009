"""In which order a target sees its examples: .venv/bin/pytest tests/selectors/test_training_order.py"""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.training_order import training_order
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage
from s2l_ray.tables.schemas import trajectories_schema

NAMES = ["a", "b", "c", "d", "e", "f"]
# Means: a 2, b 1, c 2, d 8, e 1.5, f 9. Clusters of two: {a, b, c, e} low, {d, f} high.
LOSSES = [[3, 1], [1, 1], [2, 2], [8, 8], [2, 1], [9, 9]]


@pytest.fixture
def trajectories(tmp_path):
    """The trajectories of a pool of six, in two shards."""
    artifact = Artifact(Storage(str(tmp_path)), "trajectories", {}, {})
    for number, rows in enumerate((slice(0, 4), slice(4, 6))):
        losses = pa.array(LOSSES[rows], trajectories_schema(2).field("losses").type)
        artifact.write_table(f"shards/{number}.parquet", pa.table({"example_id": NAMES[rows], "losses": losses}))
    return artifact


def order(ids, name, trajectories=None, seed=0):
    return training_order(pa.array(ids), name, trajectories, SelectionConfig(num_clusters=2), seed).to_pylist()


def test_orders_by_hand(trajectories):
    ids = ["f", "c", "a", "e", "d", "b"]  # by rank
    assert order(ids, "as_selected") == ids
    assert order(ids, "easy_first", trajectories) == ["b", "e", "c", "a", "d", "f"], "of c and a, which are equal, by rank"
    assert order(ids, "hard_first", trajectories) == ["f", "d", "c", "a", "e", "b"]
    # f and d are one cluster, c, a, e, b the other: one of each in turn, then what is left.
    turns = order(ids, "cluster_round_robin", trajectories)
    assert {tuple(turns[:2]), tuple(turns[2:4])} <= {("f", "c"), ("c", "f"), ("d", "a"), ("a", "d")}
    assert turns[4:] == ["e", "b"]


def test_of_a_part_of_the_pool(trajectories):
    assert order(["d", "b", "a"], "easy_first", trajectories) == ["b", "a", "d"]
    assert sorted(order(["d"], "cluster_round_robin", trajectories)) == ["d"]


@given(st.permutations(NAMES), st.integers(1, 6), st.sampled_from(["easy_first", "hard_first", "cluster_round_robin"]))
def test_nothing_is_lost_and_the_same_comes_again(tmp_path_factory, ids, count, name):
    artifact = Artifact(Storage(str(tmp_path_factory.mktemp("t"))), "trajectories", {}, {})
    losses = pa.array(LOSSES, trajectories_schema(2).field("losses").type)
    artifact.write_table("shards/0.parquet", pa.table({"example_id": NAMES, "losses": losses}))
    found = order(ids[:count], name, artifact)
    assert sorted(found) == sorted(ids[:count]) and found == order(ids[:count], name, artifact)
    means = dict(zip(NAMES, np.mean(LOSSES, axis=1), strict=True))
    if name != "cluster_round_robin":
        steps = np.diff([means[one] for one in found])
        assert (steps >= 0).all() if name == "easy_first" else (steps <= 0).all()
