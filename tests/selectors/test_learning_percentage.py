"""Learning Percentage against arithmetic by hand: .venv/bin/pytest tests/selectors/test_learning_percentage.py"""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.learning_percentage import LearningPercentage, epoch_1_point, learning_percentages
from s2l_ray.selectors.methods.learning_percentage_approx import LearningPercentageApprox
from s2l_ray.selectors.pool import Pool

THIRDS = np.array([0, 1 / 3, 2 / 3, 1])


def pool_with(perplexities, embeddings=None, fractions=THIRDS):
    losses = np.log(np.asarray(perplexities, dtype=np.float64)).astype(np.float32)
    ids = pa.array([f"e{i:05d}" for i in range(len(losses))])
    directions = np.tile([[1.0, 0.0]], (len(losses), 1)) if embeddings is None else embeddings
    return Pool(ids, losses_NC=losses, fractions_C=fractions, embeddings_ND=np.asarray(directions, dtype=np.float32))


def select(selector, pool, budget, **parameters):
    return selector.select(pool, budget, SelectionConfig(**{"num_clusters": 1, **parameters}), np.random.default_rng(0))


def test_hand_computed_percentages_the_lowest_first():
    # Perplexities before, after epochs 1, 2 and 3, and LP(1) = (P0 - P1) / (P0 - P3):
    #   10 -> 4 -> 3 -> 2: 6/8 = 0.75;   10 -> 9 -> 5 -> 2: 1/8 = 0.125;   8 -> 9 -> 5 -> 4: -1/4 = -0.25
    pool = pool_with([[10, 4, 3, 2], [10, 9, 5, 2], [8, 9, 5, 4]])
    choice = select(LearningPercentage(), pool, 3)
    assert choice.positions_B.tolist() == [2, 1, 0]
    assert choice.scores_B == pytest.approx([0.25, -0.125, -0.75], abs=1e-5)
    # LP_approx(1) = (P0 - P1) / P0: 6/10, 1/10, -1/8.
    approximate = select(LearningPercentageApprox(), pool, 2)
    assert approximate.positions_B.tolist() == [2, 1]
    assert approximate.scores_B == pytest.approx([0.125, -0.1], abs=1e-5)


def test_a_denominator_of_0_gives_0():
    # P0 = P3, whatever lies between; and nothing moved at all.
    assert learning_percentages(np.array([[1.5, 9.0, 1.5], [2.0, 2.0, 2.0]])).tolist() == [0, 0]


@given(st.lists(st.tuples(*[st.floats(0, 20, width=32)] * 3), min_size=1, max_size=20))
def test_percentages_are_the_definition(losses):
    for (before, epoch_1, last), found in zip(losses, learning_percentages(np.array(losses)), strict=True):
        p_0, p_1, p_n = math.exp(before), math.exp(epoch_1), math.exp(last)
        if before != last and abs(p_0 - p_n) < 1e-6 * p_0:
            continue  # the direct form loses its digits here
        expected = 0 if p_0 == p_n else (p_0 - p_1) / (p_0 - p_n)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_large_losses_do_not_overflow():
    # exp(800) is beyond a double. (e^800 - e^799) / (e^800 - e^798) = (1 - e^-1) / (1 - e^-2) = 0.7310586.
    # If epoch 1 blows up by e^900 the ratio itself is beyond a double: it is cut off, finite and lowest of all.
    found = learning_percentages(np.array([[800, 799, 798], [0, 900, 899], [1, 900, 0.5], [900, 0, 0]]))
    assert found[0] == pytest.approx(0.7310586) and found[1] == pytest.approx(math.e) and found[3] == 1
    assert np.isfinite(found).all() and found[2] == found.min() < -1e200
    wild = Pool(pa.array(["a", "b"]), losses_NC=np.array([[0, 900, 1], [900, 0, 0]], dtype=np.float32),
                fractions_C=np.array([0, 0.5, 1]), embeddings_ND=np.eye(2, dtype=np.float32))
    for selector in (LearningPercentage(), LearningPercentageApprox()):
        assert np.isfinite(select(selector, wild, 2, epoch_1_fraction=0.5).scores_B).all()


def test_each_cluster_gives_its_share_and_ranks_run_over_all():
    # 6 examples point east, 3 north: of 3 the first cluster gives its 2 lowest, the second its lowest.
    first = np.arange(2, 11)  # P1 of 2 to 10 from 20 down to 1: LP(1) = (20 - P1) / 19 falls along the rows
    perplexities = np.column_stack([np.full(9, 20), first, np.ones(9), np.ones(9)])
    choice = select(LearningPercentage(), pool_with(perplexities, [[1, 0]] * 6 + [[0, 1]] * 3), 3, num_clusters=2)
    assert choice.positions_B.tolist() == [8, 5, 4]
    assert sorted((c["size"], c["quota"]) for c in choice.facts["clusters"]) == [(3, 1), (6, 2)]
    assert len(set(choice.clusters_B[1:].tolist())) == 1 and choice.clusters_B[0] != choice.clusters_B[1]


@settings(max_examples=12, deadline=None)
@given(st.integers(100, 600), st.integers(1, 90), st.integers(0, 50))
def test_one_percent_is_one_percent_and_every_cluster_gives_its_lowest(count, clusters, seed):
    # The authors' code rounds up in each cluster: with 90 clusters 1 % of 600 would be 90.
    rng = np.random.default_rng(seed)
    angles = rng.random(count) * 6
    pool = pool_with(rng.random((count, 4)) + 1, np.column_stack([np.cos(angles), np.sin(angles)]))
    budget = round(0.01 * count)
    choice = select(LearningPercentage(), pool, budget, num_clusters=clusters)
    assert len(set(choice.positions_B.tolist())) == budget
    labels = select(LearningPercentage(), pool, count, num_clusters=clusters)
    label_of = dict(zip(labels.positions_B.tolist(), labels.clusters_B.tolist(), strict=True))
    ranking = labels.positions_B.tolist()
    for cluster in {c["cluster"] for c in choice.facts["clusters"] if c["quota"]}:
        quota = next(c["quota"] for c in choice.facts["clusters"] if c["cluster"] == cluster)
        lowest = [p for p in ranking if label_of[p] == cluster][:quota]
        assert [p for p in choice.positions_B.tolist() if label_of[p] == cluster] == lowest


def test_the_nearest_recorded_point_ends_epoch_1():
    assert epoch_1_point(pool_with([[1] * 4]).fractions_C, 1 / 3) == 1
    rounded = np.array([0, 0.3, 0.34, 0.36, 1])  # 0.34 is nearest to 1/3
    assert epoch_1_point(pool_with([[1] * 5], fractions=rounded).fractions_C, 1 / 3) == 2
    assert epoch_1_point(pool_with([[1] * 3], fractions=np.array([0, 0.02, 1])).fractions_C, 0.001) == 1, "never point 0"


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        (None, "needs the training fraction of each point"),
        ([0.5, 1], r"recorded fractions are 0.5, 1: set trajectory.include_initial=true"),
        ([0, 0.25, 0.5, 1], r"within 0.02 of selection.epoch_1_fraction=0.3333, .* are 0, 0.25, 0.5, 1: set trajectory"),
        ([0], r"within 0.02 of selection.epoch_1_fraction=0.3333, the recorded fractions are 0: "),
        ([0, 1 / 3], "learning_percentage needs a point after epoch 1"),
    ],
)
def test_missing_points_are_named_with_the_remedy(fractions, message):
    points = None if fractions is None else np.array(fractions)
    pool = pool_with([[1] * len(fractions or [1, 1])], fractions=points)
    with pytest.raises(InputError, match=message):
        select(LearningPercentage(), pool, 1)


def test_the_approximation_needs_one_epoch_only():
    choice = select(LearningPercentageApprox(), pool_with([[4, 1], [4, 2]], fractions=np.array([0, 1 / 3])), 2)
    assert choice.positions_B.tolist() == [1, 0]
    assert choice.scores_B == pytest.approx([-0.5, -0.75])
