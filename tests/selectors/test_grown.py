"""Selections that grow by new rows: .venv/bin/pytest tests/selectors/test_grown.py"""

import numpy as np
import pyarrow as pa
import pytest

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.grown import Earlier, grown, kept_positions
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.run import pool_of, run_selector


def ids(*numbers):
    return pa.array([f"e{n}" for n in numbers])


def test_what_was_chosen_stays_then_new_rows_of_a_choice_made_anew_then_its_old_ones():
    # Rows 0 to 5 were there, 1 and 4 chosen; anew, by rank: 0, 7, 4, 6, 2. Kept 1, 4; new 7, 6; then 0.
    pool = Pool(ids(*range(8)))
    found = grown(pool, np.array([4, 1]), np.array([0, 7, 4, 6, 2]), ids(*range(6)))
    assert found.positions_B.tolist() == [4, 1, 7, 6, 0]
    assert found.places_B.tolist() == [2, -1, 1, 3, 0]
    assert (found.num_kept_anew, found.num_new, found.num_new_anew) == (1, 2, 2)
    assert "2 were chosen before, 1 of which" in found.remark and "2 of the 2 new rows" in found.remark
    assert "4 of 5 are as if it had started over" in found.remark


def test_new_rows_that_the_budget_has_no_room_for_are_left_out_by_rank():
    found = grown(Pool(ids(*range(8))), np.array([0, 1]), np.array([6, 7, 5]), ids(*range(5)))
    assert found.positions_B.tolist() == [0, 1, 6] and (found.num_new, found.num_new_anew) == (1, 3)


def test_a_row_that_is_gone_and_a_budget_that_is_too_small_are_refused():
    none = np.empty(0, dtype=np.int64)
    assert kept_positions(Pool(ids(0, 1)), Earlier(ids(1, 0), ids(0, 1)), none, 2).tolist() == [1, 0], "by rank"
    with pytest.raises(InputError, match=r"1 of the 2 chosen before are no examples of the pool any more, for example \['e9'\]"):
        kept_positions(Pool(ids(0, 1)), Earlier(ids(1, 9), ids(1, 9)), none, 2)
    with pytest.raises(InputError, match=r"2 were chosen before, the budget is 1: raise selection[.]budget"):
        kept_positions(Pool(ids(0, 1)), Earlier(ids(0, 1), ids(0, 1)), none, 1)
    with pytest.raises(InputError, match=r"keeps 1 examples that selection[.]forbidden names, for example \['e1'\]"):
        kept_positions(Pool(ids(0, 1, 2)), Earlier(ids(0, 1), ids(0, 1)), np.array([1]), 3)
    with pytest.raises(ValueError, match="leave per and shares unset"):
        SelectionConfig(extends="0" * 16, shares={"a": 0.5})
    with pytest.raises(ValueError, match="extends keeps what one selector chose"):
        SelectionConfig(extends="0" * 16, controls=["random"])


def test_required_examples_come_before_new_ones_and_ranks_by_cluster_are_taken_along_all_of_them():
    # Anew: required 5 and 6 (5 is kept), then new 10 to 17 by rank. Room for five beside the kept 5: 6, then four of eight.
    pool, anew = Pool(ids(*range(20))), np.array([5, 6, *range(10, 18)])[:10]
    kept, candidates = np.array([5, 0, 1, 2, 3]), ids(*range(10))
    assert grown(pool, kept, anew, candidates, 2).positions_B.tolist() == [5, 0, 1, 2, 3, 6, 10, 11, 12, 13]
    assert grown(pool, kept, anew, candidates, 2, is_nested=False).positions_B.tolist() == [5, 0, 1, 2, 3, 6, 10, 12, 14, 16]


def table(count):
    losses = np.random.default_rng(0).gamma(2.0, size=(count, 4)).astype(np.float32)
    return pa.table({"example_id": [f"e{n:05d}" for n in range(count)], "source": ["all"] * count,
                     "losses": pa.FixedSizeListArray.from_arrays(pa.array(losses.reshape(-1)), 4)})


@pytest.mark.parametrize("name", ["s2l", "s2l_seedless", "loss_bins", "random", "high_loss"])
def test_new_rows_get_the_part_that_starting_over_gives_them(name):
    selector = SELECTORS.find(name)

    found = []

    def run(rows, budget, earlier=None):
        config = SelectionConfig(selector=name, budget=budget, num_clusters=20)
        found[:] = run_selector(selector, pool_of(rows, selector.needs), config, 0, {}, earlier)
        return found[0]

    every = table(2000)
    old = every.slice(0, 1500)
    before = run(old, 150)
    after = run(every, 200, Earlier(before["example_id"].combine_chunks(), old["example_id"].combine_chunks()))
    facts = found[1]
    anew = set(run(every, 200)["example_id"].to_pylist())
    new = {f"e{n:05d}" for n in range(1500, 2000)}
    chosen = after["example_id"].to_pylist()
    assert chosen[:150] == before["example_id"].to_pylist() and len(set(chosen)) == 200
    added = chosen[150:]
    assert set(added) <= anew and len(new & set(added)) == min(50, len(new & anew))
    if name in ("s2l", "random", "s2l_seedless"):
        assert abs(len(new & anew) - 50) < 20, "a quarter of the pool has about a quarter of the budget"
    # What is kept has its cluster where starting over chooses it too; a missing one is null, as a required example's is.
    if name == "s2l":
        clusters = after["cluster"].to_pylist()
        assert {c["cluster"]: c["quota"] for c in facts["clusters"] if c["quota"]} == {
            one: clusters.count(one) for one in set(clusters) - {None}}
        assert after["quota"].to_pylist() == [None if one is None else clusters.count(one) for one in clusters]
        assert all((cluster is None) == (one not in anew) for one, cluster in zip(chosen, clusters, strict=True))
