"""Token-bounded batches, padding and the table behind them: .venv/bin/pytest tests/modeling/test_batching.py"""

from itertools import combinations, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.modeling.batching import IGNORED, ExampleTable, collate, plan_batches

SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("supervised", pa.list_(pa.bool_()))])


def table_of(rows):
    """Rows as (ids, number of the last ids that are supervised)."""
    ids = [list(ids) for ids, _ in rows]
    masks = [[i >= len(ids) - count for i in range(len(ids))] for ids, count in rows]
    return pa.table([pa.array(ids, SCHEMA.field(0).type), pa.array(masks, SCHEMA.field(1).type)], schema=SCHEMA)


@pytest.mark.parametrize(
    ("lengths", "batch_tokens", "expected"),
    [
        ([], 10, []),
        ([3], 10, [(0, 1)]),
        ([2, 2, 2, 2, 2], 10, [(0, 5)]),  # 5 x 2 = 10 fits exactly
        ([2, 2, 2, 2, 2, 2], 10, [(0, 1), (1, 6)]),  # 6 x 2 = 12 does not; all cuts in two cost the same
        ([1, 1, 3, 4], 9, [(0, 2), (2, 4)]),  # 2 x 1 + 2 x 4 = 10 tokens; 3 x 3 + 4 = 13
        ([11, 11, 12], 10, [(0, 1), (1, 2), (2, 3)]),  # each alone is beyond the bound
        ([4, 1, 1, 1], 8, [(0, 1), (1, 4)]),  # unsorted: padded to the longest; 4 + 3 x 1 = 7 tokens
        ([1, 20, 1, 1], 10, [(0, 1), (1, 2), (2, 4)]),
        # One batch pads by 100 x 4 = 400 tokens; a second costs 128.
        ([6] * 100 + [10], 10_000, [(0, 100), (100, 101)]),
        ([6] * 20 + [10], 10_000, [(0, 21)]),  # 20 x 4 = 80 < 128
        ([0, 0, 5], 5, [(0, 2), (2, 3)]),  # 3 x 5 = 15: rows of no tokens are padded too
    ],
)
def test_batches_by_hand(lengths, batch_tokens, expected):
    assert [(b.start, b.stop) for b in plan_batches(np.array(lengths, dtype=np.int32), batch_tokens)] == expected


@given(st.lists(st.integers(0, 60), max_size=80), st.integers(1, 200))
def test_batches_cover_all_rows_once_in_order_and_respect_the_bound(lengths, batch_tokens):
    batches = plan_batches(np.array(lengths, dtype=np.int64), batch_tokens)
    assert [row for b in batches for row in range(b.start, b.stop)] == list(range(len(lengths)))
    for batch in batches:
        size = batch.stop - batch.start
        assert size >= 1
        assert size == 1 or size * max(lengths[batch]) <= batch_tokens


def cost(lengths, cuts):
    return sum(max(lengths[start:stop]) * (stop - start) + 128 for start, stop in pairwise(cuts))


@given(st.lists(st.integers(1, 400), min_size=1, max_size=8).map(sorted), st.integers(1, 2000))
def test_no_other_cut_within_the_bound_is_cheaper(lengths, batch_tokens):
    inner = range(1, len(lengths))
    cuts = [(0, *chosen, len(lengths)) for size in range(len(lengths)) for chosen in combinations(inner, size)]
    allowed = [
        c for c in cuts if all(b - a == 1 or lengths[b - 1] * (b - a) <= batch_tokens for a, b in pairwise(c))
    ]
    found = [0, *(batch.stop for batch in plan_batches(np.array(lengths), batch_tokens))]
    assert cost(lengths, found) == min(cost(lengths, c) for c in allowed)


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 200))
def test_batches_depend_on_the_lengths_alone(lengths, batch_tokens):
    plans = [plan_batches(np.array(lengths, dtype=kind), batch_tokens) for kind in (np.int32, np.int64)]
    assert plans[0] == plans[1] == plan_batches(np.array(lengths, dtype=np.int32), batch_tokens)


def test_collate_pads_on_the_right_and_labels_only_what_is_supervised():
    ids = [np.array([5, 6, 7, 8], dtype=np.int32), np.array([9, 4], dtype=np.int32)]
    supervised = [np.array([False, False, True, True]), np.array([False, True])]
    batch = collate(ids, supervised, pad_id=4)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8], [9, 4, 4, 4]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 7, 8], [IGNORED, 4, IGNORED, IGNORED]]
    assert {t.dtype for t in (batch.input_ids, batch.attention_mask, batch.labels)} == {torch.int64}


def test_collate_refuses_masks_of_another_number_of_examples():
    with pytest.raises(ValueError, match="shorter"):
        collate([np.arange(2), np.arange(3)], [np.ones(2, dtype=bool)], pad_id=0)


def test_a_batch_moves_to_a_device_whole():
    batch = collate([np.arange(3)], [np.ones(3, dtype=bool)], pad_id=0).to(torch.device("meta"))
    assert {t.device.type for t in (batch.input_ids, batch.attention_mask, batch.labels)} == {"meta"}


ROWS = [([10], 1), ([20, 21], 1), ([30, 31, 32], 2), ([40], 0), ([50, 51], 2), ([60, 61, 62, 63], 3)]


def chunked(*cuts):
    """ROWS as a table cut into chunks at these rows; equal cuts make an empty chunk."""
    whole = table_of(ROWS)
    bounds = [0, *cuts, len(ROWS)]
    pieces = [whole.slice(a, b - a) for a, b in pairwise(bounds)]
    return pa.Table.from_batches([b for piece in pieces for b in piece.to_batches() or [EMPTY]], schema=SCHEMA)


EMPTY = pa.RecordBatch.from_pylist([], schema=SCHEMA)


@pytest.mark.parametrize("cuts", [(), (1,), (2, 5), (3, 3), (0, 6), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("order", [None, [5, 0, 3], [2, 2, 1]])
def test_rows_are_the_same_however_the_table_is_chunked(cuts, order):
    rows = ExampleTable(chunked(*cuts), None if order is None else np.array(order))
    expected = [ROWS[i] for i in (range(len(ROWS)) if order is None else order)]
    assert len(rows) == len(expected)
    for row, (ids, count) in zip((rows[i] for i in range(len(rows))), expected, strict=True):
        assert row["input_ids"].tolist() == ids
        assert row["supervised"].tolist() == [i >= len(ids) - count for i in range(len(ids))]


def test_a_table_read_from_parquet_with_other_columns(tmp_path):
    table = table_of(ROWS).append_column("source", pa.array(["a"] * len(ROWS)))
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    rows = ExampleTable(pq.read_table(tmp_path / "t.parquet").slice(1, 4))
    assert [rows[i]["input_ids"].tolist() for i in range(len(rows))] == [ids for ids, _ in ROWS[1:5]]


def test_a_row_s_ids_are_views_of_the_table():
    table = table_of(ROWS)
    ids = ExampleTable(table)[1]["input_ids"]
    values = table["input_ids"].chunk(0).values.to_numpy()
    assert ids.dtype == np.int32
    assert np.shares_memory(ids, values)


def test_a_slice_of_rows_is_one_padded_batch_in_the_given_order():
    rows = ExampleTable(chunked(2, 4), np.array([5, 1, 0]))
    batch = rows.batch(slice(1, 3), pad_id=7)
    assert batch.input_ids.tolist() == [[20, 21], [10, 7]]
    assert batch.labels.tolist() == [[IGNORED, 21], [10, IGNORED]]
    assert rows.batch(slice(1, 99), pad_id=7).input_ids.tolist() == batch.input_ids.tolist()
