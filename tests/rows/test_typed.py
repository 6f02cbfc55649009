"""Typed files whose types differ: .venv/bin/pytest tests/rows/test_typed.py"""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2l_ray.errors import InputError
from s2l_ray.rows.scanning import scan_file
from s2l_ray.rows.typed import read_unit_table, unify_schemas
from s2l_ray.rows.units import plan_units


def scans_of(tmp_path, *arrays):
    for number, array in enumerate(arrays):
        pq.write_table(pa.table({"x": array}), tmp_path / f"{number}.parquet")
    return [scan_file(str(tmp_path / f"{number}.parquet")) for number in range(len(arrays))]


SAID = [[{"role": "user"}]]
SAID_MORE = [[{"role": "user", "name": "Ann"}]]


@pytest.mark.parametrize(("arrays", "kind"), [
    ((pa.array(["a"]), pa.array(["b"], pa.large_string())), "large_string"),
    ((pa.array([1]), pa.array([0.5])), "double"),
    ((pa.array([[]], pa.list_(pa.null())), pa.array([["b"]])), "list<item: string>"),
    ((pa.array([None]), pa.array([SAID[0]])), "list<item: struct<role: string>>"),
    ((pa.array(SAID), pa.array(SAID_MORE)), "list<item: struct<role: string, name: string>>"),
])
def test_types_that_differ_harmlessly_become_one_that_holds_both(tmp_path, arrays, kind):
    scans = scans_of(tmp_path, *arrays)
    schema = unify_schemas(scans)
    assert str(schema.field("x").type).replace("element", "item") == kind
    tables = [read_unit_table(unit, schema) for unit in plan_units(scans, 10)]
    assert [table.schema for table in tables] == [schema] * len(arrays)


@pytest.mark.parametrize("kinds", [("int64", "string"), ("binary", "string"), ("bool", "int64")])
def test_types_that_have_nothing_in_common_are_refused_with_both_files(tmp_path, kinds):
    scans = scans_of(tmp_path, *(pa.nulls(1, kind) for kind in kinds))
    expected = rf"1\.parquet: column 'x' is {kinds[1]}, but {kinds[0]} in .*0\.parquet"
    with pytest.raises(InputError, match=expected) as caught:
        unify_schemas(scans)
    assert re.search("give it one type in all files", str(caught.value))


def test_one_shard_of_five_hundred_is_found(tmp_path):
    scans = scans_of(tmp_path, *[pa.array(["a"])] * 300, pa.array([1]), *[pa.array(["a"])] * 199)
    with pytest.raises(InputError, match=r"300\.parquet: column 'x' is int64, but string in .*/0\.parquet"):
        unify_schemas(scans)
