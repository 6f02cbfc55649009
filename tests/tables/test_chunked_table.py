"""Tables in parts: .venv/bin/pytest tests/tables/test_chunked_table.py"""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage
from s2l_ray.tables import chunked_table
from s2l_ray.tables.chunked_table import (
    ChunkedTable,
    chunked_from_parquet,
    chunked_from_shards,
    chunked_from_table,
    in_order,
)
from s2l_ray.tables.schemas import metadata_of, with_metadata

WHOLE = with_metadata(pa.table({"a": range(10), "b": [f"b{i}" for i in range(10)]}), {"known": 1})


def three(reads=None):
    """The table in parts of 4, 4 and 2 rows; appends (part, columns) of every read to `reads`."""

    def reader(number, piece):
        def read(columns):
            if reads is not None:
                reads.append((number, *columns))
            return piece.select(list(columns))

        return read

    pieces = [WHOLE.slice(0, 4), WHOLE.slice(4, 4), WHOLE.slice(8)]
    return ChunkedTable(WHOLE.schema, (4, 4, 2), tuple(reader(*item) for item in enumerate(pieces)))


def test_the_parts_are_the_table():
    assert three().read().equals(WHOLE) and metadata_of(three().read().schema) == {"known": 1}
    assert three().read(["b"]).equals(WHOLE.select(["b"])) and three().num_rows == 10
    assert chunked_from_table(WHOLE).read().equals(WHOLE)
    spans = list(three().each(["a"], lambda rows, part: (rows.start, rows.stop, part["a"][0].as_py())))
    assert spans == [(0, 4, 0), (4, 8, 4), (8, 10, 8)]


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=10, max_size=10))
def test_only_marked_rows_are_left(marks):
    mask, reads = np.array(marks), []
    left = three(reads).only([mask[:4], mask[4:8], mask[8:]])
    assert left.read().equals(WHOLE.filter(pa.array(mask))) and left.num_rows == sum(marks)
    assert len(reads) == sum(any(part) for part in (marks[:4], marks[4:8], marks[8:])), "a part without any is not read"


def test_what_was_read_is_kept_if_there_is_room(monkeypatch):
    reads = []
    table = three(reads).held()
    assert all(table.read().equals(WHOLE) for _ in range(3)) and len(reads) == 3
    assert table.without(["a"]).read(["b"]).equals(WHOLE.select(["b"])) and len(reads) == 3
    # Column a takes 10 x 8 bytes: there is room for 80, and with 79 nothing is kept.
    for room, times in ((80, 1), (79, 3)):
        reads.clear()
        monkeypatch.setattr(chunked_table, "_HELD_BYTES", room)
        table = three(reads).held()
        assert all(table.read(["a"]).equals(WHOLE.select(["a"])) for _ in range(3))
        assert sorted(reads) == sorted([(part, "a") for part in range(3)] * times)


def test_a_file_comes_by_row_groups_and_small_ones_are_joined(tmp_path, monkeypatch):
    file = tmp_path / "table.parquet"
    pq.write_table(WHOLE, file, row_group_size=3)  # 3, 3, 3, 1
    monkeypatch.setattr(chunked_table, "_PART_ROWS", 6)
    assert chunked_from_parquet(file, "--it").sizes == (6, 4)
    assert chunked_from_parquet(file, "--it").read().equals(WHOLE)
    monkeypatch.setattr(chunked_table, "_PART_ROWS", 1)
    assert chunked_from_parquet(file, "--it").sizes == (3, 3, 3, 1)


def test_shards_are_parts(tmp_path):
    artifact = Artifact(Storage(str(tmp_path)), "select", {})
    for number, start in enumerate((0, 7)):
        artifact.write_table(f"shards/{number}.parquet", WHOLE.slice(start, 7))
    table = chunked_from_shards(artifact, "shards")
    assert table.sizes == (7, 3) and table.read().equals(WHOLE) and metadata_of(table.schema) == {"known": 1}


def test_files_that_are_none_or_torn_are_refused(tmp_path):
    file = tmp_path / "x.parquet"
    with pytest.raises(InputError, match=r"--it .*x.parquet: no such file"):
        chunked_from_parquet(file, "--it")
    file.write_bytes(b"no")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        chunked_from_parquet(file, "--it")
    pq.write_table(pa.table({"a": np.random.default_rng(0).random(10_000)}), file)
    whole = bytearray(file.read_bytes())
    whole[4:60_000] = b"\0" * 59_996
    file.write_bytes(whole)
    with pytest.raises(InputError, match="not a readable Parquet file"):
        chunked_from_parquet(file, "--it").read()


def test_work_comes_in_order_two_at_a_time():
    at_work, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2, timeout=20)

    def work(item):
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        both.wait()  # passes only if two are at work
        with lock:
            at_work -= 1
        return item

    assert list(in_order(work, range(20))) == list(range(20))
    assert most == 2


def test_a_failure_in_a_part_is_the_callers():
    def work(item):
        if item == 3:
            raise InputError("the third")
        return item

    with pytest.raises(InputError, match="the third"):
        list(in_order(work, range(10)))


def test_parts_without_rows_are_none(tmp_path):
    empty = WHOLE.slice(0, 0)
    assert chunked_from_table(empty).sizes == () and chunked_from_table(empty).read().equals(empty)
    with pq.ParquetWriter(tmp_path / "x.parquet", WHOLE.schema) as writer:
        for piece in (empty, WHOLE, empty):
            writer.write_table(piece)
    assert chunked_from_parquet(tmp_path / "x.parquet", "--it").sizes == (10,)
    artifact = Artifact(Storage(str(tmp_path)), "select", {})
    artifact.write_table("shards/0.parquet", empty)
    artifact.write_table("shards/1.parquet", WHOLE)
    assert chunked_from_shards(artifact, "shards").read().equals(WHOLE)
