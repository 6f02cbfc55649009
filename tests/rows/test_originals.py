"""The rows as they came: exact lines for JSON, original types for Parquet."""

import datetime
import decimal
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.rows.originals import json_lines, typed_table, values

TYPED = pa.table(
    {
        "text": ["é", None],
        "at": pa.array([datetime.datetime(2024, 2, 29, 12, 0, 0, 5), None], pa.timestamp("us", "UTC")),
        "day": pa.array([datetime.date(2024, 2, 29), None]),
        "tags": pa.array([["a", "b"], []], pa.list_(pa.string())),
        "turns": pa.array([[{"role": "user", "n": 1}], None],
                          pa.list_(pa.struct([("role", pa.string()), ("n", pa.int8())]))),
        "price": pa.array([decimal.Decimal("1.10"), None], pa.decimal128(10, 2)),
        "small": pa.array([1, None], pa.int8()),
        "code": pa.array(["x", "y"]).dictionary_encode(),
    }
)


def originals_table(files, rows, raw, typed):
    """What prepare keeps: `typed` is a struct of the original columns, null for JSON rows."""
    columns = {"file": files, "row": rows, "raw": raw}
    return pa.table(columns if typed is None else {**columns, "typed": typed})


def from_json(*lines):
    count = len(lines)
    return originals_table(pa.array(["f"] * count), pa.array(range(count)), pa.array(lines, pa.string()), None)


def from_parquet(table):
    count = table.num_rows
    struct = pa.StructArray.from_arrays([c.combine_chunks() for c in table.columns], fields=list(table.schema))
    return originals_table(pa.array(["f"] * count), pa.array(range(count)), pa.nulls(count, pa.string()), struct)


def through_parquet(table):
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return pq.read_table(buffer)


# --- rows from JSON ----------------------------------------------------------------------------------


def test_json_rows_come_back_line_for_line():
    lines = ('{"b":1,  "a" : 2.50}', '{"a":1e3,"n":12345678901234567890}', '{"a":"\\u00e9é"}', '{"a":{"z":1,"b":[]}}')
    table = from_json(*lines)
    assert json_lines(table) == list(lines)
    assert values(table) == [json.loads(line) for line in lines]


def test_json_columns_get_the_type_their_values_share():
    table = typed_table(from_json('{"n": 1, "x": 1.5, "t": "a"}', '{"x": 2, "t": null, "l": [1]}'))
    assert [str(kind) for kind in table.schema.types] == ["int64", "double", "string", "list<item: int64>"]
    assert table.to_pylist() == [{"n": 1, "x": 1.5, "t": "a", "l": None}, {"n": None, "x": 2.0, "t": None, "l": [1]}]


@pytest.mark.parametrize(
    "cells",
    [
        [1, "a", None],
        [True, 1],
        [[1], ["a"]],
        [[1], "a"],
        [{"k": 1}, {"k": "x"}],
        [{"k": 1}, [1]],
        [2**70, 1],
        [2**53 + 1, 0.5],  # no float holds 2^53 + 1
        [{}, None],  # Parquet has no struct without fields
        [[{}]],
        [{"k": {"deep": {}}}],
    ],
)
def test_json_columns_whose_values_share_no_type_become_json_text(cells):
    table = through_parquet(typed_table(from_json(*(json.dumps({"c": cell, "ok": 1}) for cell in cells))))
    assert table.schema.field("c").type == pa.string()
    assert [None if text is None else json.loads(text) for text in table["c"].to_pylist()] == cells
    assert table["ok"].to_pylist() == [1] * len(cells)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=5)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), json_values, min_size=1), min_size=1, max_size=5))
def test_any_json_rows_can_be_stored_as_parquet(rows):
    originals = from_json(*map(json.dumps, rows))
    table = through_parquet(typed_table(originals))
    assert table.num_rows == len(rows)
    assert set(table.column_names) == {name for row in rows for name in row}
    assert [json.loads(line) for line in json_lines(through_parquet(originals))] == rows


# --- rows from Parquet -------------------------------------------------------------------------------


def test_parquet_rows_keep_their_types():
    back = typed_table(through_parquet(from_parquet(TYPED)))
    assert back.schema.equals(TYPED.schema)
    assert back.equals(TYPED)


def test_parquet_rows_keep_nanoseconds():
    table = pa.table({"at": pa.array([1_600_000_000_000_000_001], pa.timestamp("ns"))})
    originals = through_parquet(from_parquet(table))
    assert typed_table(originals).equals(table)
    assert json.loads(json_lines(originals)[0]) == {"at": "2020-09-13T12:26:40.000000001"}


def test_parquet_rows_become_lines_of_json():
    first, second = map(json.loads, json_lines(from_parquet(TYPED)))
    assert first == {
        "text": "é", "at": "2024-02-29T12:00:00.000005+00:00", "day": "2024-02-29", "tags": ["a", "b"],
        "turns": [{"role": "user", "n": 1}], "price": "1.10", "small": 1, "code": "x"}
    assert second == {"text": None, "at": None, "day": None, "tags": [], "turns": None, "price": None, "small": None,
                      "code": "y"}


def test_lines_hold_no_line_breaks():
    table = pa.table({"text": ["two\nlines\r\u2028"]})
    assert json_lines(from_parquet(table)) == ['{"text": "two\\nlines\\r\u2028"}']


def test_some_of_the_parquet_rows_in_another_order():
    originals = from_parquet(TYPED).take([1, 0])
    assert typed_table(originals).equals(TYPED.take([1, 0]))


def test_rows_of_both_kinds_share_the_types_they_can():
    parquet = from_parquet(pa.table({"text": ["a"], "n": pa.array([1], pa.int8())}))
    mixed = pa.concat_tables([parquet, from_json('{"text":"b", "n": 2.5}')], promote_options="default")
    assert json_lines(mixed) == ['{"text": "a", "n": 1}', '{"text":"b", "n": 2.5}']
    assert typed_table(mixed).to_pylist() == [{"text": "a", "n": 1.0}, {"text": "b", "n": 2.5}]
