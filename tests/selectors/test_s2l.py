"""S2L and its controls on small tables: .venv/bin/pytest tests/selectors"""

import numpy as np
import pyarrow as pa
import pytest

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.s2l import prepare_trajectories
from s2l_ray.selectors.run import pool_of, resolve_budget, run_selector
from s2l_ray.tables.schemas import with_metadata


def table(losses_NC, sources=None, fractions=None):
    losses_NC = np.asarray(losses_NC, dtype=np.float32)
    columns = {
        "example_id": [f"e{i:05d}" for i in range(len(losses_NC))],
        "source": sources or ["all"] * len(losses_NC),
        "losses": pa.FixedSizeListArray.from_arrays(pa.array(losses_NC.reshape(-1)), losses_NC.shape[1]),
    }
    made = pa.table(columns)
    if fractions is None:
        return made
    return with_metadata(made, {"points": [{"step": i, "fraction": f} for i, f in enumerate(fractions)]})


def select(pool_table, name="s2l", seed=0, **parameters):
    config = SelectionConfig(selector=name, **parameters)
    selector = SELECTORS.find(name)
    return run_selector(selector, pool_of(pool_table, selector.needs), config, seed, {})


def random_losses(count, points=4, seed=0):
    return np.random.default_rng(seed).random((count, points))


def test_even_sampling_over_three_known_clusters():
    # Clusters of 90, 8 and 2 examples far apart, budget 20: visits 2 -> 2 (20//3=6), 8 -> 8 (18//2=9), 90 -> 10.
    losses = np.repeat([[1, 1], [50, 50], [99, 99]], [90, 8, 2], axis=0) + random_losses(100, 2) * 0.01
    selection, facts = select(table(losses), budget=20, num_clusters=3)
    chosen = [int(name[1:]) for name in selection["example_id"].to_pylist()]
    assert [sum(low <= i < high for i in chosen) for low, high in ((0, 90), (90, 98), (98, 100))] == [10, 8, 2]
    assert [(c["size"], c["quota"]) for c in facts["clusters"]] == [(2, 2), (8, 8), (90, 10)]
    assert set(chosen[:2]) == {98, 99}, "the smallest cluster is visited first"
    assert selection["quota"].to_pylist() == [2] * 2 + [8] * 8 + [10] * 10
    centroids = {c["cluster"]: c["centroid"] for c in facts["clusters"]}
    rows = zip(*(selection[column].to_pylist() for column in ("cluster", "distance", "score")), chosen, strict=True)
    for cluster, distance, score, row in rows:
        assert distance == pytest.approx(np.linalg.norm(losses[row] - centroids[cluster]), abs=1e-3) == -score


@pytest.mark.parametrize(("budget", "taken"), [
    (20, [12, 8, 0]), (98, [90, 8, 0]), (99, [90, 8, 1]), (101, [90, 8, 3])])
@pytest.mark.parametrize("name", ["s2l", "s2l_seedless"])
def test_clusters_below_the_least_size_give_only_what_the_others_have_not(name, budget, taken):
    # Clusters of 90, 8, 1 and 2; those of 1 and 2 are one of three that comes last. Budget 20: 8 -> 8 (20//2=10), 90 -> 12.
    losses = np.repeat([[1, 1], [50, 50], [75, 75], [99, 99]], [90, 8, 1, 2], axis=0) + random_losses(101, 2) * 0.01
    selection, facts = select(table(losses), name, budget=budget, num_clusters=4, least_cluster_size=3)
    chosen = [int(one[1:]) for one in selection["example_id"].to_pylist()]
    found = [sum(low <= i < high for i in chosen) for low, high in ((0, 90), (90, 98), (98, 99), (99, 101))]
    assert [found[0], found[1], found[2] + found[3]] == taken
    assert sorted((c["size"], c["quota"]) for c in facts["clusters"]) == sorted(zip((90, 8, 1, 2), found, strict=True))
    assert all(i >= 98 for i in chosen[98:]), "what is left over comes last"


def test_a_source_of_small_clusters_alone_may_have_nothing_to_give():
    # Budget 6 over eleven sources: the ten small ones, whose rows are clusters of one, give 0 or 1, the large one the rest.
    sources = [f"small{n % 10}" for n in range(100)] + ["large"] * 100
    selection, _ = select(table(random_losses(200), sources), budget=6, num_clusters=100, stratify_by="source", least_cluster_size=3)
    assert len(selection) == 6


def test_what_is_left_over_is_drawn_from_small_clusters_alike():
    # One large cluster of 3 and three clusters of 2, 2, 1; budget 5 leaves two of those five rows to a draw.
    losses = np.repeat([[1], [30], [60], [90]], [3, 2, 2, 1], axis=0).astype(float)
    config = SelectionConfig(budget=5, num_clusters=4, least_cluster_size=3)
    pool = pool_of(table(losses), SELECTORS.find("s2l").needs)
    drawn = [SELECTORS.find("s2l").select(pool, 5, config, np.random.default_rng(seed)) for seed in range(400)]
    order = np.array([int(name[1:]) for name in pool.example_ids.take(pa.array(np.arange(8))).to_pylist()])  # the pool's own
    assert drawn[0].chances_N[np.argsort(order)] == pytest.approx([1, 1, 1, 0.4, 0.4, 0.4, 0.4, 0.4])
    counts = np.bincount(order[np.concatenate([one.positions_B for one in drawn])], minlength=8)
    # 400 draws at 0.4: 160, standard deviation 9.8.
    assert (counts[:3] == 400).all() and (np.abs(counts[3:] - 160) < 40).all()


def test_each_source_gets_an_equal_share_when_stratified():
    # Sources of 80, 15, 5 and budget 30: 5 -> 5 (30//3=10), 15 -> 12 (25//2), 80 -> 13.
    sources = ["big"] * 80 + ["mid"] * 15 + ["small"] * 5
    selection, _ = select(table(random_losses(100), sources), budget=30, num_clusters=4, stratify_by="source")
    chosen = [sources[int(name[1:])] for name in selection["example_id"].to_pylist()]
    assert [chosen.count(s) for s in ("small", "mid", "big")] == [5, 12, 13]


def test_point_0_is_left_out_unless_asked_for():
    # All but the first point are equal in 20 of 40 examples: with point 0 there are two clusters, without it one.
    losses = np.repeat([[9, 3, 1], [5, 3, 1]], 20, axis=0)
    pool = table(losses, fractions=[0.0, 0.5, 1.0])
    for include_initial, sizes in ((False, [0, 40]), (True, [20, 20])):
        _, facts = select(pool, budget=10, num_clusters=2, include_initial=include_initial)
        assert [c["size"] for c in facts["clusters"]] == sizes
        assert len(facts["clusters"][0]["centroid"]) == 2 + include_initial


def test_normalisations():
    losses, every = np.array([[1, 2, 3], [5, 5, 5]], dtype=np.float32), np.ones(3, dtype=bool)
    # z-score of 1, 2, 3: mean 2, population deviation sqrt(2/3) = 0.8165; constant trajectories become 0.
    zscore = prepare_trajectories(losses, every, "zscore")
    assert zscore == pytest.approx(np.array([[-1.2247, 0, 1.2247], [0, 0, 0]]), abs=1e-3)
    assert prepare_trajectories(losses, every, "ratio") == pytest.approx(np.array([[2, 1.5], [1, 1]]), abs=1e-6)
    assert prepare_trajectories(losses, np.array([False, True, True]), "none").tolist() == [[2, 3], [5, 5]]
    with pytest.raises(InputError, match="ratio needs at least 2 trajectory points"):
        select(table([[9, 1], [8, 2]], fractions=[0.0, 1.0]), budget=1, num_clusters=1, normalise="ratio")


def test_auto_takes_the_root_of_half_the_pool_and_findings_tell_the_mean_losses():
    # sqrt(50 / 2) = 5 clusters. Point 0 is not clustered on, but the mean losses show it.
    pool = table(np.column_stack([np.full(50, 9.0), random_losses(50, 2)]), fractions=[0.0, 0.5, 1.0])
    _, facts = select(pool, budget=50, num_clusters="auto")
    assert len(facts["clusters"]) == 5
    assert all(c["mean_losses"] == pytest.approx([9, *c["centroid"]], abs=2e-3) for c in facts["clusters"])
    _, stratified = select(pool, budget=50, num_clusters="auto", stratify_by="source")
    assert len(stratified["clusters"]) == 5


@pytest.mark.parametrize(("budget", "count", "expected"), [(0.11, 1000, 110), (1.0, 7, 7), (0.001, 10, 1), (3, 10, 3)])
def test_budgets(budget, count, expected):
    assert resolve_budget(budget, count) == expected


def test_bad_tables_and_budgets_say_what_is_wrong():
    with pytest.raises(InputError, match=r"budget=11 must be between 1 and the 10 candidates"):
        resolve_budget(11, 10)
    with pytest.raises(InputError, match="num_clusters=100 exceeds the 5 examples: lower it, or set it to auto"):
        select(table(random_losses(5)), budget=2)
    with pytest.raises(InputError, match="example_id repeats, for example \\['a'\\]"):
        pool_of(pa.table({"example_id": ["a", "b", "a"]}), frozenset())
    with pytest.raises(InputError, match=r"NaN or infinite value in `losses`, e.g. \['e00001'\]"):
        pool_of(table([[1, 2], [1, float("nan")]]), frozenset({"trajectories"}))
    with pytest.raises(InputError, match=r"'s2k' is unknown; did you mean s2l\? known: ask_llm, "):
        SELECTORS.find("s2k")


def test_without_a_seed_members_are_taken_at_even_steps_of_their_distance():
    # One cluster with the centroid 1.5 and distances 1.4 1.2 0.9 0.5 0 0.6 1.3 2.1, of which 3 are asked for: runs of 8/3
    # in the order by distance, 4 3 5 2 1 6 0 7, whose middles are at (2i + 1) * 8 // 6 = 1, 4, 6.
    losses = np.array([0.1, 0.3, 0.6, 1.0, 1.5, 2.1, 2.8, 3.6])
    selection, facts = select(table(losses[:, None]), "s2l_seedless", budget=3, num_clusters=1)
    assert [int(name[1:]) for name in selection["example_id"].to_pylist()] == [3, 1, 0]
    assert facts["clusters"][0]["quota"] == 3


def test_without_a_seed_every_seed_gives_one_selection_with_s2l_s_quotas():
    made = table(random_losses(300))
    first, facts = select(made, "s2l_seedless", seed=0, budget=0.1, num_clusters=12)
    for seed in (1, 2):
        again, _ = select(made, "s2l_seedless", seed=seed, budget=0.1, num_clusters=12)
        assert again["example_id"].to_pylist() == first["example_id"].to_pylist()
        drawn, _ = select(made, "s2l", seed=seed, budget=0.1, num_clusters=12)
        assert drawn["example_id"].to_pylist() != first["example_id"].to_pylist()
    assert sum(cluster["quota"] for cluster in facts["clusters"]) == 30
    whole, _ = select(made, "s2l_seedless", budget=1.0, num_clusters=12)
    assert len(set(whole["example_id"].to_pylist())) == 300, "a cluster that gives all gives each member once"


def test_without_a_seed_near_and_far_members_have_their_shares():
    # 1,000 in one cluster, 100 taken: their mean distance is the cluster's within a step, where a draw's varies by
    # 1 / sqrt(100) of the spread.
    made = table(random_losses(1000, points=3))
    selection, _ = select(made, "s2l_seedless", budget=100, num_clusters=1)
    everyone, _ = select(made, "s2l_seedless", budget=1.0, num_clusters=1)
    found, of_all = (np.array(t["distance"].to_pylist()) for t in (selection, everyone))
    assert found.mean() == pytest.approx(of_all.mean(), abs=0.002) and found.std() == pytest.approx(of_all.std(), abs=0.005)
