"""Row accounting: read = examples + duplicates + quarantined, against a walk over the rows one by one."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.accounting import NARROW, settle
from s2l_ray.rows.marks import LEAK, SIGNATURE
from s2l_ray.tables.schemas import LEAK as LEAK_TYPE
from s2l_ray.tables.schemas import LEAKS, NEAR_DUPLICATES

KINDS = {"row": pa.int64(), "unused": pa.list_(pa.string())}
SCHEMA = pa.schema([(name, KINDS.get(name, pa.string())) for name in NARROW])


def part(*rows):
    """A part table of (key, user_id) rows; a key of None is a bad row."""
    made = [{"file": "f.jsonl", "row": i + 1, "key": key, "user_id": user_id,
             "reason": "not_json" if key is None else None, "detail": "bad" if key is None else None}
            for i, (key, user_id) in enumerate(rows)]
    return pa.Table.from_pylist(made, schema=SCHEMA)


def config(**values):
    return DataConfig(path="x", **values)


def places(accounts):
    return list(zip(accounts.parts_N.tolist(), accounts.rows_N.tolist(), strict=True))


def expected(parts, drop_duplicates, with_ids):
    """Return (ids, places, duplicates, quarantined) by going through the rows in order."""
    ids, kept, seen, duplicates, bad = [], [], {}, 0, 0
    for number, rows in enumerate(parts):
        for row, (key, user_id) in enumerate(rows):
            if key is None:
                bad += 1
                continue
            earlier = seen.get(key, 0)
            seen[key] = earlier + 1
            if earlier and drop_duplicates:
                duplicates += 1
            elif with_ids and user_id in ids:
                bad += 1
            else:
                ids.append(user_id if with_ids else key + (f"-{earlier + 1}" if earlier else ""))
                kept.append((number, row))
    return ids, kept, duplicates, bad


rows = st.lists(st.tuples(st.none() | st.sampled_from("abcd"), st.sampled_from(["1", "2", "3", "4"])), max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.lists(rows, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_every_row_is_accounted_for(parts, drop_duplicates, with_ids):
    data = config(drop_duplicates=drop_duplicates, id_column="id" if with_ids else None)
    accounts = settle([part(*rows) for rows in parts], data)
    ids, kept, duplicates, bad = expected(parts, drop_duplicates, with_ids)
    assert accounts.num_read == sum(map(len, parts))
    assert accounts.num_read == accounts.num_examples + accounts.num_duplicates + accounts.num_quarantined
    assert accounts.ids.to_pylist() == ids
    assert len(set(ids)) == len(ids)
    assert places(accounts) == kept
    assert (accounts.num_duplicates, accounts.num_quarantined) == (duplicates, bad)


def test_the_first_of_equal_conversations_stays():
    # b occurs at part 0 row 1 and part 1 rows 0 and 2; a once more at part 1 row 1.
    accounts = settle([part(("a", None), ("b", None)), part(("b", None), ("a", None), ("b", None), ("c", None))],
                      config())
    assert accounts.ids.to_pylist() == ["a", "b", "c"]
    assert places(accounts) == [(0, 0), (0, 1), (1, 3)]
    assert accounts.num_duplicates == 3


def test_kept_duplicates_have_numbered_hashes():
    accounts = settle([part(("a", None), ("b", None)), part(("a", None), ("a", None))], config(drop_duplicates=False))
    assert accounts.ids.to_pylist() == ["a", "b", "a-2", "a-3"]
    assert accounts.num_duplicates == 0


def test_an_id_borne_by_a_different_row_is_quarantined():
    accounts = settle([part(("a", "7"), ("b", "8")), part(("c", "7"), ("d", "9"))], config(id_column="id"))
    assert accounts.ids.to_pylist() == ["7", "8", "9"]
    assert accounts.quarantine.to_pylist() == [{
        "file": "f.jsonl", "row": 1, "reason": "duplicate_id",
        "detail": "id '7' is borne by an earlier, different row"}]


def test_a_duplicate_with_the_same_id_is_a_duplicate_and_not_a_clash():
    accounts = settle([part(("a", "7"), ("a", "7"))], config(id_column="id"))
    assert (accounts.num_examples, accounts.num_duplicates, accounts.num_quarantined) == (1, 1, 0)


def test_a_dropped_duplicates_id_is_free_again():
    # Row 2 repeats row 1's text under the id 8, which row 3 then bears alone.
    accounts = settle([part(("a", "7"), ("a", "8"), ("b", "8"))], config(id_column="id"))
    assert accounts.ids.to_pylist() == ["7", "8"]
    assert places(accounts) == [(0, 0), (0, 2)]


def test_bad_rows_keep_their_place_and_reason():
    accounts = settle([part(("a", None), (None, None))], config())
    assert accounts.quarantine.to_pylist() == [{"file": "f.jsonl", "row": 2, "reason": "not_json", "detail": "bad"}]


@pytest.mark.parametrize("rows", [[], [(None, None)], [(None, None), (None, None)]])
@pytest.mark.parametrize("id_column", [None, "id"])
def test_no_good_row_at_all(rows, id_column):
    accounts = settle([part(*rows), part()], config(id_column=id_column))
    assert (accounts.num_examples, accounts.num_quarantined) == (0, len(rows))
    assert accounts.ids.type == pa.string()


# --- near-duplicates ---------------------------------------------------------------------------------

TWINS = {"threshold": 0.8, "compare": "prompt"}


def signed(*rows):
    """A part table of (key, user_id, what it is like): rows of one letter are near-duplicates, None has no words."""
    drawn = {letter: np.random.default_rng(ord(letter)).integers(0, 256, 128, dtype=np.uint8).tobytes() for letter in "abcd"}
    table = part(*[(key, user_id) for key, user_id, _ in rows])
    return table.append_column(SIGNATURE, pa.array([drawn.get(like) for *_, like in rows], pa.binary(128)))


def test_the_first_of_near_duplicates_stays_and_the_others_are_listed_with_it():
    tables = [signed(("1", None, "a"), ("2", None, "b"), (None, None, None)),
              signed(("3", None, "a"), ("2", None, "b"), ("4", None, None), ("5", None, "b"), ("6", None, None))]
    accounts = settle(tables, config(near_duplicates=TWINS))
    assert accounts.ids.to_pylist() == ["1", "2", "4", "6"] and places(accounts) == [(0, 0), (0, 1), (1, 2), (1, 4)]
    assert accounts.counts == {"read": 8, "examples": 4, "duplicates": 1, "near_duplicates": 2, "quarantined": 1}
    assert accounts.near_duplicates.schema == NEAR_DUPLICATES
    assert accounts.near_duplicates.to_pylist() == [
        {"file": "f.jsonl", "row": 1, "kept_file": "f.jsonl", "kept_row": 1, "similarity": 1.0},
        {"file": "f.jsonl", "row": 4, "kept_file": "f.jsonl", "kept_row": 2, "similarity": 1.0}]


def test_a_near_duplicates_id_is_free_again():
    accounts = settle([signed(("1", "7", "a"), ("2", "8", "a"), ("3", "8", "b"))], config(near_duplicates=TWINS, id_column="id"))
    assert accounts.ids.to_pylist() == ["7", "8"] and places(accounts) == [(0, 0), (0, 2)]


def test_equal_rows_that_are_to_stay_are_near_duplicates_all_the_same():
    accounts = settle([signed(("1", None, "a"), ("1", None, "a"), ("2", None, None), ("2", None, None))],
                      config(near_duplicates=TWINS, drop_duplicates=False))
    assert accounts.ids.to_pylist() == ["1", "2", "2-2"]
    assert accounts.counts == {"read": 4, "examples": 3, "duplicates": 0, "near_duplicates": 1, "quarantined": 0}


likes = st.lists(st.tuples(st.none() | st.sampled_from("uvwxyz"), st.just("1"), st.none() | st.sampled_from("abcd")), max_size=14)


@given(likes, st.lists(st.integers(0, 14), max_size=3))
def test_cuts_into_units_change_nothing(rows, cuts):
    whole = settle([signed(*rows)], config(near_duplicates=TWINS))
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    units = [signed(*rows[a:b]) for a, b in itertools.pairwise(bounds)]
    cut = settle(units, config(near_duplicates=TWINS))
    assert cut.counts == whole.counts and cut.ids.equals(whole.ids)
    assert cut.near_duplicates["similarity"].equals(whole.near_duplicates["similarity"])


@pytest.mark.parametrize("rows", [[], [(None, None, None)]])
def test_no_row_to_compare(rows):
    accounts = settle([signed(*rows), signed()], config(near_duplicates=TWINS))
    assert accounts.near_duplicates.num_rows == 0 and accounts.num_examples == 0


# --- leaks -------------------------------------------------------------------------------------------

FOUND = {"task": "gsm8k", "held_out_file": "test.jsonl", "held_out_row": 9, "how": "the same row", "shared": ""}


def marked(table, *leaking):
    """A part table of which the rows at these places are leaks."""
    return table.append_column(LEAK, pa.array([FOUND if n in leaking else None for n in range(table.num_rows)], LEAK_TYPE))


def test_leaks_are_left_out_before_near_duplicates_and_never_stand_for_one():
    # Rows 0 and 2 are twins; row 0 leaks, so row 2 stays. Row 3 repeats row 0 and is a duplicate. Row 4 is bad.
    table = signed(("1", "7", "a"), ("2", "8", "b"), ("3", "7", "a"), ("1", "9", "a"), (None, None, None))
    accounts = settle([marked(table, 0, 3)], config(near_duplicates=TWINS, id_column="id"))
    assert accounts.ids.to_pylist() == ["8", "7"] and places(accounts) == [(0, 1), (0, 2)]
    assert accounts.counts == {
        "read": 5, "examples": 2, "duplicates": 1, "leaks": 1, "near_duplicates": 0, "quarantined": 1}
    assert accounts.leaks.schema == LEAKS and accounts.leaks.to_pylist() == [{"file": "f.jsonl", "row": 1, **FOUND}]


def test_leaks_are_counted_where_there_are_none_and_only_where_they_were_looked_for():
    table = part(("a", None), (None, None))
    assert settle([marked(table), marked(part())], config()).counts == {
        "read": 2, "examples": 1, "duplicates": 0, "leaks": 0, "quarantined": 1}
    assert settle([table], config()).leaks is None
