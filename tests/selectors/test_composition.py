"""Examples and sources that a selection is to hold: .venv/bin/pytest tests/selectors/test_composition.py"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.run import pool_of, run_selector, selection_identity
from s2l_ray.tables.schemas import metadata_of

SOURCES = ["big"] * 80 + ["mid"] * 15 + ["small"] * 5
IDS = [f"e{n:03d}" for n in range(100)]


def pool_with(sources=SOURCES):
    losses = np.random.default_rng(0).random((len(sources), 3)).astype(np.float32)
    table = pa.table({"example_id": IDS[: len(sources)], "source": sources,
                      "losses": pa.array(losses.tolist(), pa.list_(pa.float32()))})
    return pool_of(table, SELECTORS.find("high_loss").needs)


def select(name="high_loss", budget=30, pool=None, **settings):
    config = SelectionConfig(selector=name, budget=budget, **settings)
    return run_selector(SELECTORS.find(name), pool or pool_with(), config, 0, {})[0]


def chosen(table):
    return table["example_id"].to_pylist()


def counts(table):
    found = [SOURCES[int(name[1:])] for name in chosen(table)]
    return {name: found.count(name) for name in ("big", "mid", "small")}


def by_loss():
    """All ids, the highest last loss first."""
    return chosen(select(budget=100))


def test_required_rows_come_first_and_the_selector_chooses_the_rest():
    order = by_loss()
    required = [order[-1], order[0], order[-2]]  # the best is required too: it is not chosen twice
    table = select(budget=10, required=required)
    assert chosen(table)[3:] == order[1:8]
    assert set(chosen(table)[:3]) == set(required)
    assert table["score"].to_pylist()[:3] == [None] * 3, "nobody scored them: they were asked for"
    assert table["score"].null_count == 3


def test_forbidden_rows_are_no_candidates_and_a_share_is_one_of_the_others():
    order = by_loss()
    table = select(budget=0.25, forbidden=order[:20])  # 0.25 x 80 = 20
    assert chosen(table) == order[20:40]
    assert metadata_of(table.schema)["num_candidates"] == 80
    whole = chosen(select("full"))
    assert chosen(select("full", forbidden=order[:20])) == [one for one in whole if one not in order[:20]]


def test_the_whole_budget_can_be_required():
    assert set(chosen(select("s2l", budget=4, num_clusters=2, required=IDS[:4]))) == set(IDS[:4])


def test_a_source_gives_its_share_and_all_others_the_rest():
    # 30 % of 20 is 6 of mid; 14 of big and small together, the highest losses first.
    table = select(budget=20, shares={"mid": 0.3})
    order = by_loss()
    rest = [one for one in order if SOURCES[int(one[1:])] != "mid"][:14]
    mid = [one for one in order if SOURCES[int(one[1:])] == "mid"][:6]
    assert chosen(table) == mid + rest, "groups by ascending size: 15 of mid, 85 of the others"
    assert counts(select(budget=20, shares={"mid": 0.3}, per="source")) == {"big": 9, "mid": 6, "small": 5}
    assert counts(select(budget=10, shares={"mid": 0.5, "small": 0.5})) == {"big": 0, "mid": 5, "small": 5}
    # Thirds of 10: 3.33 each, the one left over goes to the largest remainder, of equal ones to the first.
    assert counts(select(budget=10, shares={"big": 1 / 3, "mid": 1 / 3, "small": 1 / 3})) == {"big": 4, "mid": 3, "small": 3}


def test_all_of_it_together():
    order = by_loss()
    mid = [one for one in order if SOURCES[int(one[1:])] == "mid"]
    table = select(budget=21, shares={"mid": 0.3}, required=[mid[-1]], forbidden=mid[:5])
    # One is required, and of the 20 that are left 6 come from what is free of mid.
    assert chosen(table)[:7] == [mid[-1], *mid[5:11]]


@pytest.mark.parametrize(("settings", "said"), [
    ({"required": ["e001", "nobody"]}, "selection.required: 1 of 2 are no examples of the pool, for example \\['nobody'\\]"),
    ({"forbidden": ["nobody"]}, "selection.forbidden: none of its 1 ids is an example"),
    ({"required": ["e001", "e002"], "forbidden": ["e002"]}, "1 examples are named by .* \\['e002'\\]: take them out of one"),
    ({"required": IDS[:31]}, "selection.required names 31 examples, the budget is 30: raise"),
    ({"required": []}, "selection.required=\\[\\] names no example"),
    ({"required": "/no/such.txt"}, "selection.required /no/such.txt: not readable"),
    ({"required": "/no/such.parquet"}, "selection.required /no/such.parquet: no such file"),
    ({"shares": {"tiny": 0.1}}, "selection.shares names \\['tiny'\\]; the pool's sources: big, mid, small"),
    ({"shares": {"mid": 0.6}}, "selection.shares.mid=0.6 of a budget of 30 is 18 examples, and the source has 15"),
    ({"shares": {"mid": 0.1, "big": 0.1}}, "leave 24 of a budget of 30 to the other sources, which have 5 examples"),
])
def test_what_cannot_be_is_refused(settings, said):
    with pytest.raises(InputError, match=said):
        select(**settings)


@pytest.mark.parametrize(("shares", "said"), [
    ({"a": 0.7, "b": 0.4}, "sum to 1.1, which is above 1"), ({"a": 0}, "greater than 0"), ({"a": 1.5}, "less than or equal to 1"),
])
def test_shares_are_parts(shares, said):
    with pytest.raises(ValueError, match=said):
        SelectionConfig(shares=shares)


def test_ids_are_read_from_any_file_and_are_the_same_selection(tmp_path):
    ids = ["e005", "e017"]
    first = select(budget=5, required=ids)
    (tmp_path / "ids.txt").write_text("\ufeffe017\r\n\n e005 \ne005\n", encoding="utf-8")
    (tmp_path / "ids.jsonl").write_text("".join(json.dumps({"rank": 0, "example_id": one}) + "\n" for one in ids))
    pq.write_table(pa.table({"example_id": ids}), tmp_path / "ids.parquet")
    selector = SELECTORS.find("high_loss")
    identity = selection_identity(selector, SelectionConfig(budget=5, required=ids), 0)
    for name in ("ids.txt", "ids.jsonl", "ids.parquet"):
        settings = {"budget": 5, "required": str(tmp_path / name)}
        assert chosen(select(**settings)) == chosen(first)
        assert selection_identity(selector, SelectionConfig(**settings), 0) == identity
    assert selection_identity(selector, SelectionConfig(budget=5, required=ids[:1]), 0) != identity
    (tmp_path / "rows.jsonl").write_text('{"question": "?"}\n')
    with pytest.raises(InputError, match=r"rows[.]jsonl line 1: it needs a text example_id"):
        select(required=str(tmp_path / "rows.jsonl"))


@given(st.data(), st.integers(1, 100))
def test_any_composition_holds_what_was_asked(data, budget):
    named = data.draw(st.lists(st.sampled_from(IDS), unique=True, max_size=40))
    cut = data.draw(st.integers(0, min(len(named), budget)))
    required, forbidden = named[:cut] or None, named[cut:] or None
    num_forbidden = len(forbidden or [])
    budget = min(budget, 100 - num_forbidden)
    if cut > budget:
        return
    table = select("s2l", budget, num_clusters=1, required=required, forbidden=forbidden)
    ids = chosen(table)
    assert len(ids) == len(set(ids)) == budget
    assert set(required or []) == set(ids[:cut]) and not set(forbidden or []) & set(ids)
