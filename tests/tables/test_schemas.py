"""The tables that stages meet at: names, metadata, the losses matrix and a selection's promises."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.tables.schemas import (
    SELECTION,
    check_selection,
    losses_matrix,
    metadata_of,
    shard_name,
    trajectories_schema,
    with_metadata,
)

ROWS = [[3.0, 2.0, 1.0], [0.5, 0.25, 0.125]]


def trajectories(rows, kind=None):
    ids = [f"e{i}" for i in range(len(rows))]
    return pa.table({"example_id": ids, "losses": pa.array(rows, kind or pa.list_(pa.float32()))})


def selection(ranks, ids):
    count = len(ranks)
    columns = [pa.array(ranks, pa.int64()), pa.array(ids), *(pa.nulls(count, kind) for kind in SELECTION.types[2:])]
    return pa.table(columns, schema=SELECTION)


def test_shard_names_sort_by_number():
    numbers = [0, 9, 10, 99_999, 100_000, 999_999]
    assert sorted(map(shard_name, numbers)) == list(map(shard_name, numbers))
    assert shard_name(7) == "shard-000007.parquet"


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)))
def test_metadata_survives_parquet(metadata):
    buffer = io.BytesIO()
    pq.write_table(with_metadata(pa.table({"a": [1]}), metadata), buffer)
    assert metadata_of(pq.read_table(buffer).schema) == metadata


def test_a_table_from_elsewhere_has_no_metadata():
    assert metadata_of(pa.schema([("a", pa.int8())])) == {}
    assert metadata_of(pa.schema([("a", pa.int8())], metadata={"pandas": "{}"})) == {}


@pytest.mark.parametrize("kind", [
    pa.list_(pa.float32(), 3), pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16())])
def test_losses_come_as_one_float32_matrix_whatever_the_list_type(kind):
    losses_NC = losses_matrix(trajectories(ROWS, kind))
    assert losses_NC.dtype == np.float32
    assert losses_NC.tolist() == ROWS


def test_integers_are_losses_too():
    assert losses_matrix(trajectories([[1, 2]], pa.list_(pa.int64()))).tolist() == [[1, 2]]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 3), pa.list_(pa.float32())])
def test_losses_of_slices_and_many_chunks(kind):
    rows = np.arange(30, dtype=np.float32).reshape(10, 3).tolist()
    table = trajectories(rows, kind)
    assert losses_matrix(table.slice(4, 3)).tolist() == rows[4:7]
    pieces = pa.concat_tables([table.slice(5), table.slice(0, 0), table.slice(0, 5)])
    assert losses_matrix(pieces).tolist() == rows[5:] + rows[:5]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"loss": [1.0]}), r"needs a column `losses`, got \['loss'\]"),
        (pa.table({"losses": [1.0]}), "must hold lists of numbers, got double"),
        (trajectories([["a"]], pa.list_(pa.string())), "must hold lists of numbers, got list<"),
        (trajectories([[1.0], None]), "has missing values; every example needs every one"),
        (trajectories([[1.0, None]]), "has missing values; every example needs every one"),
        (trajectories([[1.0], None], pa.list_(pa.float32(), 1)), "has missing values"),
        (trajectories([]), "the table of `losses` is empty"),
        (trajectories([[], []]), "the table of `losses` is empty"),
        (trajectories([[1.0], [1.0, 2.0], [1.0]]), r"must have one length, got lengths \[1, 2\]"),
        # Three lists of lengths 1, 3 and 2 hold as many values as three of length 2.
        (trajectories([[1.0], [1.0, 2.0, 3.0], [1.0, 2.0]]), r"must have one length, got lengths \[1, 2, 3\]"),
        (trajectories([[1.0], [float("nan")], [float("inf")]]), r"^2 rows have a NaN or infinite .* \['e1', 'e2'\]"),
        (trajectories([[1.0], [float("nan")]]).drop(["example_id"]), r"^1 rows have a NaN .* e\.g\. \[1\]; remove"),
    ],
)
def test_what_is_no_trajectories_table(table, message):
    with pytest.raises(InputError, match=message):
        losses_matrix(table)


def test_the_schema_of_trajectories_fixes_their_length():
    assert trajectories_schema(12).field("losses").type == pa.list_(pa.float32(), 12)


def test_a_selection_keeps_its_promises():
    check_selection(selection([0, 1], ["b", "a"]), 2)
    with pytest.raises(AssertionError, match="2 rows selected, budget 3"):
        check_selection(selection([0, 1], ["b", "a"]), 3)
    with pytest.raises(AssertionError, match=r"ranks must be 0..budget-1"):
        check_selection(selection([1, 0], ["b", "a"]), 2)
    with pytest.raises(AssertionError, match="selected twice"):
        check_selection(selection([0, 1], ["a", "a"]), 2)
    with pytest.raises(AssertionError):
        check_selection(pa.table({"rank": [0]}), 1)
