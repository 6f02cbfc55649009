"""Any selector inside each source: .venv/bin/pytest tests/selectors/test_per.py"""


import numpy as np
import pyarrow as pa
import pytest

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.per import select_per_source
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.run import run_selector, selection_identity
from s2l_ray.selectors.selector import Choice, Selector

SOURCES = ["big"] * 80 + ["mid"] * 15 + ["small"] * 5


def pool_with(sources=SOURCES, seed=0):
    rng = np.random.default_rng(seed)
    count = len(sources)
    return Pool(pa.array([f"e{i:05d}" for i in range(count)]), pa.array(sources), rng.random((count, 3)).astype(np.float32),
                np.array([0, 0.5, 1]), rng.random((count, 2)).astype(np.float32), rng.random(count), rng.random(count))


def select(name, pool, budget, **parameters):
    config = SelectionConfig(selector=name, budget=budget, per="source", **parameters)
    return run_selector(SELECTORS.find(name), pool, config, 0, {})


def sources_of(selection, pool):
    return [pool.sources[int(name[1:])].as_py() for name in selection["example_id"].to_pylist()]


def test_sources_share_the_budget_and_rank_by_ascending_size():
    # 5 -> 5 (30 // 3 = 10), 15 -> 12 (25 // 2 = 12), 80 -> 13.
    pool = pool_with()
    selection, facts = select("high_loss", pool, 30)
    assert sources_of(selection, pool) == ["small"] * 5 + ["mid"] * 12 + ["big"] * 13
    assert facts == {"sources": [{"source": "small", "size": 5, "quota": 5}, {"source": "mid", "size": 15, "quota": 12},
                                 {"source": "big", "size": 80, "quota": 13}]}
    last = pool.losses_NC[:, -1]
    expected = [*(95 + np.argsort(-last[95:])), *(80 + np.argsort(-last[80:95])[:12]), *np.argsort(-last[:80])[:13]]
    assert [int(name[1:]) for name in selection["example_id"].to_pylist()] == expected


def test_clusters_of_two_sources_are_never_one():
    pool = pool_with()
    selection, facts = select("s2l", pool, 60, num_clusters=8)  # the small source has 5 examples, so 5 clusters
    numbers = [(c["source"], c["cluster"]) for c in facts["clusters"]]
    assert [sum(source == name for source, _ in numbers) for name in ("small", "mid", "big")] == [5, 8, 8]
    assert len({cluster for _, cluster in numbers}) == 21
    owner = {cluster: source for source, cluster in numbers}
    assert [owner[c] for c in selection["cluster"].to_pylist()] == sources_of(selection, pool)


def test_a_source_without_quota_is_left_out():
    # B = 2, three sources: 2 // 3 = 0 for the smallest, then 1 and 1.
    pool = pool_with()
    selection, facts = select("s2l", pool, 2, num_clusters=3)
    assert sources_of(selection, pool) == ["mid", "big"]
    assert facts["sources"][0] == {"source": "small", "size": 5, "quota": 0}


def test_another_source_does_not_change_what_one_gives():
    # Each source draws from a generator of its own, in the order of the visits.
    with_more = pool_with(["a"] * 10 + ["b"] * 20 + ["c"] * 30)
    without = with_more.take(np.arange(30))
    first = select("random", with_more, 15)[0]["example_id"].to_pylist()
    assert first[:10] == select("random", without, 10)[0]["example_id"].to_pylist()


def test_taking_positions_slices_every_column():
    class Seen(Selector):
        name = "seen"

        def select(self, pool, budget, config, rng):
            pools.append(pool)
            return Choice(np.arange(budget))

    pools, whole = [], pool_with()
    choice = select_per_source(Seen(), whole, 100, SelectionConfig(), np.random.default_rng(0))
    assert choice.clusters_B is None and choice.scores_B is None
    small = pools[0]
    assert small.example_ids.equals(whole.example_ids[95:]) and small.sources.equals(whole.sources[95:])
    for name in ("losses_NC", "embeddings_ND", "lengths_N", "scores_N"):
        assert np.array_equal(getattr(small, name), getattr(whole, name)[95:]), name
    assert small.fractions_C is whole.fractions_C
    assert len(pools) == 3 and Pool(pa.array(["a"])).take(np.array([0])).losses_NC is None


def test_full_ignores_sources_and_every_other_selection_is_named_by_them():
    selection, facts = select("full", pool_with([None] * 4), 1)
    assert selection.num_rows == 4 and facts == {}
    for selector in SELECTORS:
        plain, per = (selection_identity(selector, SelectionConfig(per=value), 0) for value in (None, "source"))
        assert (plain != per) is (selector.name != "full")


def test_what_cannot_be_shared_out_is_refused():
    with pytest.raises(InputError, match=r"selection.per=source needs a column source without missing values"):
        select("random", pool_with(["a", None]), 1)
    with pytest.raises(InputError, match="num_clusters=101 exceeds the 100 examples"):
        select("s2l", pool_with(), 10, num_clusters=101)
