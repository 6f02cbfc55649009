"""LTD on pools whose clusters are known: .venv/bin/pytest tests/selectors/test_ltd.py"""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.ltd import LTD
from s2l_ray.selectors.pool import Pool

SIZES = (60, 30, 10)


def pool(sizes=SIZES, sources=("math", "code", "chat"), at=((1, 0, 0), (0.7, 0.7, 0), (-1, 0, 1))):
    """Clusters of these sizes and sources, in this order; the second is nearer to the first than the third is."""
    rows = np.repeat(np.array(at, dtype=float), sizes, axis=0)
    rows = (rows + 0.02 * np.random.default_rng(0).normal(size=rows.shape)).astype(np.float32)
    names = None if sources is None else pa.array(np.repeat(sources, sizes).tolist())
    ids = pa.array([f"e{i:05d}" for i in range(len(rows))])
    return Pool(ids, names, embeddings_ND=rows / np.linalg.norm(rows, axis=1, keepdims=True))


def select(given, budget, seed=0, **parameters):
    config = SelectionConfig(selector="ltd", **{"num_clusters": 3, "outlier_share": 0, **parameters})
    return LTD().select(given, budget, config, np.random.default_rng(seed))


def counts(choice):
    edges = np.cumsum((0, *SIZES))
    return np.histogram(choice.positions_B, edges)[0].tolist()


def test_clusters_share_the_budget_in_proportion_smallest_first():
    choice = select(pool(), 20)  # 20 * (60, 30, 10) / 100 = 12, 6, 2
    assert counts(choice) == [12, 6, 2]
    assert [(c["size"], c["quota"]) for c in choice.facts["clusters"]] == [(10, 2), (30, 6), (60, 12)]
    assert (choice.positions_B[:2] >= 90).all()
    assert (choice.scores_B[[0, 2, 8]] == 2).all(), "the first centre of each cluster"
    assert len(set(choice.clusters_B.tolist())) == 3


def test_only_the_tasks_clusters_are_drawn_from():
    assert counts(select(pool(), 20, task_sources=["code"])) == [0, 20, 0]
    assert counts(select(pool(), 20, task_sources=["code", "chat"])) == [0, 15, 5]  # 20 * 30/40, 20 * 10/40


def test_a_budget_above_the_tasks_clusters_is_filled_from_the_nearest():
    assert counts(select(pool(), 45, task_sources=["code"])) == [15, 30, 0]
    assert counts(select(pool(), 95, task_sources=["code"])) == [60, 30, 5]
    assert counts(select(pool(), 100, task_sources=["chat"])) == [60, 30, 10]


def test_inside_a_cluster_the_farthest_follow():
    # One cluster at 0, 1, 2 and 40 degrees: whatever comes first, 40 or the end opposite to it is second.
    angles = np.radians([0, 1, 2, 40])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    made = Pool(pa.array(list("abcd")), embeddings_ND=rows)
    for seed in range(5):
        assert 3 in select(made, 2, seed, num_clusters=1).positions_B
        assert 3 not in select(made, 3, seed, num_clusters=1, outlier_share=0.25).positions_B


def test_unknown_and_missing_sources_are_refused():
    with pytest.raises(InputError, match=r"\['poems'\] are no sources of the pool; known: chat, code, math"):
        select(pool(), 5, task_sources=["math", "poems"])
    with pytest.raises(InputError, match=r"task_sources=\['math'\] needs a column source"):
        select(pool(sources=None), 5, task_sources=["math"])
    assert len(select(pool(sources=None), 5).positions_B) == 5


def test_too_many_clusters_are_refused():
    with pytest.raises(InputError, match="num_clusters=101 exceeds the 100 examples"):
        select(pool(), 5, num_clusters=101)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 1), st.integers(1, 8), st.floats(0, 0.9), st.booleans(), st.integers(0, 99))
def test_exactly_the_budget_none_twice_and_seeded(count, share, clusters, outliers, equal, seed):
    rows = np.ones((count, 4)) if equal else np.random.default_rng(seed).normal(size=(count, 4))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    sources = pa.array([f"s{i % 3}" for i in range(count)])
    made = Pool(pa.array([f"e{i:05d}" for i in range(count)]), sources, embeddings_ND=rows)
    budget = max(1, int(share * count))
    parameters = {"num_clusters": min(clusters, count), "outlier_share": outliers, "task_sources": ["s0"]}
    first, again = (select(made, budget, seed, **parameters) for _ in range(2))
    assert len(set(first.positions_B.tolist())) == len(first.positions_B) == len(first.scores_B) == budget
    assert np.array_equal(first.positions_B, again.positions_B)
