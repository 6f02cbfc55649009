"""Rows by the ids of a table made elsewhere: .venv/bin/pytest tests/rows/test_picked.py"""

import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.conversation import digest
from s2l_ray.rows.originals import json_lines, typed_table
from s2l_ray.rows.picked import pick_rows
from s2l_ray.rows.shape import to_conversation
from s2l_ray.storage.files import Storage

ROWS = [{"instruction": f"What is {n} + 1?", "output": str(n + 1), "name": f"row {n}"} for n in range(30)]


def picked(path, ids, column=None, **data):
    return pick_rows(DataConfig(path=str(path), **data), Storage(str(path.parent)), ids, column)


def written(tmp_path, rows, name="mine.jsonl"):
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / name


def digests(rows):
    return [digest(to_conversation(row, "alpaca", {}, {})) for row in rows]


@pytest.mark.parametrize("column", ["example_id", "id"])
def test_rows_come_as_they_came_in_the_order_of_the_ids(tmp_path, column):
    path = written(tmp_path, [{column: n, **row} for n, row in enumerate(ROWS)])
    lines = path.read_text().splitlines()
    assert json_lines(picked(path, ["7", "0", "29"])) == [lines[7], lines[0], lines[29]]


def test_ids_that_this_package_made_are_found_by_the_conversation(tmp_path):
    path = written(tmp_path, [*ROWS[:2], "no row", *ROWS])  # a bad row and duplicates: the first one stays
    lines = path.read_text().splitlines()
    made = digests(ROWS)
    assert json_lines(picked(path, [made[4], made[1]])) == [lines[7], lines[1]]


def test_a_column_is_named_and_files_of_several_kinds_are_read_with_their_types(tmp_path):
    days = [datetime.date(2026, 1, 1) + datetime.timedelta(n) for n in range(30)]
    table = pa.Table.from_pylist(ROWS).append_column("day", pa.array(days))
    pq.write_table(table, tmp_path / "mine.parquet", row_group_size=7)
    found = typed_table(picked(tmp_path / "mine.parquet", ["row 9", "row 2"], "name"))
    assert found.to_pylist() == table.take([9, 2]).to_pylist()
    assert found.schema.field("day").type == pa.date32()


@pytest.mark.parametrize(("ids", "column", "said"), [
    (["row 1", "row 99"], "name", r"1 of the 2 chosen ids are in no row by column name, for example \['row 99'\]"),
    (["1"], None, "tried: column example_id, column id, the hash of the conversation. --id-column NAME says"),
])
def test_an_id_without_a_row_is_refused(tmp_path, ids, column, said):
    with pytest.raises(InputError, match=said):
        picked(written(tmp_path, ROWS), ids, column)


def test_an_id_of_two_different_rows_is_refused(tmp_path):
    path = written(tmp_path, [{**ROWS[0], "id": 1}, {**ROWS[1], "id": 1}, {**ROWS[2], "id": 2}, {**ROWS[2], "id": 2}])
    with pytest.raises(InputError, match=r"column id has '1' in mine.jsonl row 1 and in mine.jsonl row 2, which differ"):
        picked(path, ["1"])
    assert picked(path, ["2"]).num_rows == 1, "the same row twice is one"


@given(st.permutations(range(30)), st.integers(1, 30), st.integers(1, 9))
def test_any_choice_over_any_files(tmp_path_factory, order, count, num_files):
    folder = tmp_path_factory.mktemp("files")
    for number in range(num_files):
        written(folder, [{"id": n, **ROWS[n]} for n in range(30)][number::num_files], f"part{number}.jsonl")
    ids = [str(n) for n in order[:count]]
    rows = pick_rows(DataConfig(path=str(folder)), Storage(str(folder)), ids, None)
    assert [str(json.loads(line)["id"]) for line in json_lines(rows)] == ids


def test_a_column_that_does_not_hold_the_ids_may_repeat(tmp_path):
    path = written(tmp_path, [{"example_id": f"e{n}", "id": 1, **ROWS[n]} for n in range(5)])
    assert [json.loads(line)["example_id"] for line in json_lines(picked(path, ["e3", "e1"]))] == ["e3", "e1"]
