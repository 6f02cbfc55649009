"""Listing, scanning, units and reading: every row accounted for, whatever the bytes are."""

import bz2
import datetime
import decimal
import gzip
import hashlib
import io
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.rows import streams
from s2l_ray.rows.files.parquet import FORMAT as PARQUET
from s2l_ray.rows.listing import file_names, format_by_ending, list_files
from s2l_ray.rows.parsing import RawRow
from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.scanning import scan_file
from s2l_ray.rows.streams import MAX_LINE_BYTES
from s2l_ray.rows.typed import read_unit_table, unify_schemas
from s2l_ray.rows.units import FileScan, Unit, plan_units

DATA = Path(__file__).parents[3] / "shared" / "data"
COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress}


def write(path: Path, content: bytes | str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read_all(scan: FileScan, rows_per_unit: int = 10**9) -> list[RawRow]:
    return [row for unit in plan_units([scan], rows_per_unit) for row in read_unit(unit)]


def read_lines(tmp_path: Path, content: bytes | str) -> list[RawRow]:
    return read_all(scan_file(write(tmp_path / "rows.jsonl", content)))


def write_parquet(path: Path, num_rows: int = 100, **options: object) -> str:
    table = pa.table({"id": range(num_rows), "text": [f"text {i} é" * 20 for i in range(num_rows)]})
    pq.write_table(table, path, **options)
    return str(path)


# --- listing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", ("jsonl", None)),
        ("a.ndjson.gz", ("jsonl", "gzip")),
        ("a.JSON.ZST", ("json", "zstd")),
        ("s3://b/x.y/a.jsonl.bz2", ("jsonl", "bz2")),
        ("a.parquet", ("parquet", None)),
        ("a.parquet.gz", None),
        ("a.csv", ("csv", None)),
        ("a.txt", None),
        ("a.gz", None),
        ("jsonl", None),
    ],
)
def test_kind_is_told_by_the_ending(name, expected):
    assert format_by_ending(name) == expected


def test_a_folder_lists_known_files_sorted_and_skips_hidden_ones(tmp_path):
    for name in ["b.jsonl", "a.parquet", "sub/c.json.gz", "r.md", ".d.jsonl", "_e.jsonl", "_tmp/f.jsonl"]:
        write(tmp_path / name, "{}")
    expected = [str(tmp_path / name) for name in ["a.parquet", "b.jsonl", "sub/c.json.gz"]]
    assert list_files(str(tmp_path)) == list_files(f"{tmp_path}/") == expected


def test_globs(tmp_path):
    for name in ["a/x1.jsonl", "a/x2.jsonl", "a/b/x3.jsonl", "x4.jsonl", "a/_x5.jsonl", "a/x.md"]:
        write(tmp_path / name, "{}")

    def names(pattern):
        return [Path(file).relative_to(tmp_path).as_posix() for file in list_files(f"{tmp_path}/{pattern}")]

    assert names("a/*.jsonl") == names("a/x[12]*") == names("a/x?.jsonl") == ["a/x1.jsonl", "a/x2.jsonl"]
    assert names("**/*.jsonl") == ["a/b/x3.jsonl", "a/x1.jsonl", "a/x2.jsonl", "x4.jsonl"]
    assert names("a/**") == ["a/b/x3.jsonl", "a/x1.jsonl", "a/x2.jsonl"]
    assert names("a/x[!1].jsonl") == ["a/x2.jsonl"]
    assert names("a/_*.jsonl") == ["a/_x5.jsonl"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    path = write(tmp_path / "a[1]*.jsonl", '{"a": 1}\n')
    assert list_files(path) == [path]


def test_relative_and_home_paths(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for asked in ("a.jsonl", "./a.jsonl", "*.jsonl", "~/a.jsonl", "~/*", "~"):
        assert list_files(asked) == [path]
    assert scan_file("a.jsonl").num_rows == scan_file("~/a.jsonl").num_rows == 1


def test_storage_uris_come_back_as_uris_that_open(tmp_path):
    write(tmp_path / "a b%.jsonl", '{"a": 1}\n')
    for uri in [f"file://{tmp_path}", f"file://{tmp_path}/*.jsonl"]:
        (file,) = list_files(uri)
        assert file == f"file://{tmp_path}/a%20b%25.jsonl" and scan_file(file).name == "a b%.jsonl"
        assert read_all(scan_file(file))[0].value == {"a": 1}


@pytest.mark.parametrize("missing", ["nothing.jsonl", "nothing/", "*.jsonl", "no/folder/*.jsonl"])
def test_no_match_names_the_path_and_the_known_endings(tmp_path, missing):
    with pytest.raises(InputError, match=r"no such file.*\.ndjson.*\.zst.*\.parquet"):
        list_files(f"{tmp_path}/{missing}")


def test_a_folder_of_other_files_says_what_it_found(tmp_path):
    write(tmp_path / "a.txt", "1")
    write(tmp_path / "b.txt", "1")
    with pytest.raises(InputError, match=r"found the endings \.txt \(2\)"):
        list_files(str(tmp_path))
    with pytest.raises(InputError, match=r"\.txt \(1\).*Known endings: \.csv, \.tsv, \.json, \.jsonl"):
        list_files(f"{tmp_path}/a.txt")


def test_bad_uris_are_input_errors_and_keys_are_not_repeated():
    with pytest.raises(InputError, match="nosuch"):
        list_files("nosuch://bucket/data")
    with pytest.raises(InputError) as caught:
        list_files("s3://AKIA:secret@bucket/data")
    assert "secret" not in str(caught.value) and "environment" in str(caught.value)


def test_names_are_the_paths_below_the_shared_folder():
    assert file_names(["/d/a/x.jsonl"]) == ["x.jsonl"]
    assert file_names(["/d/a/x.jsonl", "/d/b/x.jsonl"]) == ["a/x.jsonl", "b/x.jsonl"]
    assert file_names(["s3://k/a/x.jsonl?region=eu", "s3://k/a/y.jsonl?region=eu"]) == ["x.jsonl", "y.jsonl"]
    assert file_names(["/d/a/x.jsonl", "/d/a/b/x.jsonl"]) == ["x.jsonl", "b/x.jsonl"]


# --- scanning ----------------------------------------------------------------------------------------


def test_scan_counts_hashes_and_marks(tmp_path):
    content = b'\xef\xbb\xbf{"a": 1}\n\n{"a": 2}\n  \t\r\n{"a": 3}\n{"a": 4}'
    scan = scan_file(write(tmp_path / "x.jsonl", content), rows_per_unit=2)
    assert (scan.name, scan.format, scan.compression, scan.num_rows) == ("x.jsonl", "jsonl", None, 4)
    assert scan.sha256 == hashlib.sha256(content).hexdigest() and scan.num_bytes == len(content)
    assert scan.offsets == (3, content.index(b'{"a": 3}')) and scan.lines == (1, 5)
    assert [(row.row, row.value["a"], row.raw) for row in read_all(scan)] == [
        (1, 1, '{"a": 1}'), (3, 2, '{"a": 2}'), (5, 3, '{"a": 3}'), (6, 4, '{"a": 4}'),
    ]  # fmt: skip


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2"])
def test_the_hash_is_of_the_stored_bytes_and_members_concatenate(tmp_path, ending):
    stored = COMPRESS[ending](b'{"a": 1}\n') + COMPRESS[ending](b'{"a": 2}\n')
    scan = scan_file(write(tmp_path / f"x.jsonl{ending}", stored), name="called")
    assert scan.sha256 == hashlib.sha256(stored).hexdigest() and scan.num_bytes == len(stored)
    assert scan.name == "called" and [row.value for row in read_all(scan)] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.parquet", "x.jsonl.gz", "x.json.zst"])
def test_an_empty_file_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: the file is empty"):
        scan_file(write(tmp_path / name, b""))


@pytest.mark.parametrize(("name", "content"), [("x.jsonl", "\n \n"), ("x.json", " \n"), ("x.json", " [ ]\n"),
                                                ("x.jsonl", b"\xef\xbb\xbf")])  # fmt: skip
def test_a_file_without_rows_is_refused(tmp_path, name, content):
    with pytest.raises(InputError, match=r"x\.json.*holds no rows"):
        scan_file(write(tmp_path / name, content))


def test_missing_file_folder_and_unknown_ending(tmp_path):
    with pytest.raises(InputError, match=r"gone\.jsonl: no such file"):
        scan_file(str(tmp_path / "gone.jsonl"))
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        scan_file(str(tmp_path / "d.jsonl"))
    with pytest.raises(InputError, match=r"a\.txt: unknown ending.*\.ndjson"):
        scan_file(write(tmp_path / "a.txt", "1"))


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2"])
@pytest.mark.parametrize("cut", [10, -4])
def test_truncated_compressed_file(tmp_path, ending, cut):
    lines = b"".join(b'{"a": "%d"}\n' % (i * 7919) for i in range(5000))
    path = write(tmp_path / f"x.jsonl{ending}", COMPRESS[ending](lines)[:cut])
    with pytest.raises(InputError, match=rf"x\.jsonl{ending}: the \w+ stream is truncated or corrupt"):
        scan_file(path)


def test_a_file_that_is_not_compressed_at_all(tmp_path):
    with pytest.raises(InputError, match="gzip stream is truncated or corrupt"):
        scan_file(write(tmp_path / "x.jsonl.gz", '{"a": 1}\n'))


def test_a_failing_disk_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    class FailingDisk(io.BytesIO):
        def read(self, num_bytes: int | None = -1) -> bytes:
            raise OSError("connection reset")

    monkeypatch.setattr(streams, "open_input", lambda uri: FailingDisk())
    for name in ("x.jsonl", "x.jsonl.gz"):
        with pytest.raises(OSError, match="connection reset"):
            scan_file(str(tmp_path / name))


def test_of_an_overlong_line_only_the_head_is_held(monkeypatch):
    monkeypatch.setattr(streams, "MAX_LINE_BYTES", 5)
    chunks = [b"a\n12", b"34", b"56", b"78\nb", b"c\n", b"end"]
    assert list(streams.iter_lines(chunks)) == [b"a", b"123456", b"bc", b"end"]


def test_an_overlong_line_is_a_bad_row(tmp_path):
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.write(b'{"a": 1}\n"')
        for _ in range(66):
            file.write(b"x" * (1 << 20))
        file.write(b'"\n{"a": 2}\n')
    first, long, last = read_all(scan_file(str(path)), rows_per_unit=2)
    assert (first.value, last.value, last.row) == ({"a": 1}, {"a": 2}, 3)
    assert (long.reason, len(long.raw)) == ("not_json", 1000) and f"{MAX_LINE_BYTES:,}" in long.detail


# --- .json -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_json_array(tmp_path, ending):
    values = [{"a": i, "t": "é😀\n"} for i in range(7)]
    text = "\n" + json.dumps(values, indent=1, ensure_ascii=False) + "\n "
    scan = scan_file(write(tmp_path / f"x.json{ending}", COMPRESS[ending](text.encode())), rows_per_unit=3)
    assert (scan.format, scan.num_rows, len(scan.offsets)) == ("json", 7, 3)
    for size in (1, 2, 3, 5, 100):
        rows = read_all(scan, size)
        assert [row.value for row in rows] == values
        assert [row.row for row in rows] == list(range(1, 8))
    assert rows[0].raw == json.dumps(values[0], ensure_ascii=False)


def test_bad_elements_of_an_array_are_rows_with_reasons(tmp_path):
    deep = "[" * 300 + "]" * 300
    text = '\ufeff[{"a": 1}, 3, null, {"b": "\\ud800"}, {"c": ' + deep + '}, ["x"], {"a": 2}]'
    rows = read_all(scan_file(write(tmp_path / "x.json", text), rows_per_unit=2), 3)
    assert " ".join(row.reason or "ok" for row in rows) == (
        "ok not_an_object not_an_object invalid_utf8 not_json not_an_object ok"
    )
    assert rows[3].raw == '{"b": "\\ud800"}' and rows[6].value == {"a": 2}


def test_jsonl_called_json(tmp_path):
    scan = scan_file(write(tmp_path / "x.json", '\n{"a": 1}\nbad\n{"a": 2}\n'))
    assert (scan.format, scan.num_rows) == ("jsonl", 3)
    assert [row.reason for row in read_all(scan)] == [None, "not_json", None]


@pytest.mark.parametrize(
    "content", ['{"data": [{"a": 1}]}', '{\n "data": [\n]}', "text\nmore", "3\n4", '"a"']
)
def test_json_that_is_neither_array_nor_lines(tmp_path, content):
    with pytest.raises(InputError, match=r"x\.json: .*starts with.*Wrap the objects in an array.*\.jsonl"):
        scan_file(write(tmp_path / "x.json", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1},\n {"a": }]', "line 2, column 8: Expecting value"),
        ('[{"a": 1}\n', "line 2, column 1: Expecting ',' or ']'"),
        ("[", "line 1, column 2: Expecting value"),
        ('[{"a": 1}] x', "line 1, column 12: Extra data"),
        ('[{"a": 1},]', "column 11: Expecting value"),
        ("[1, " + "9" * 5000 + "]", "element 2: .*4300"),
        ("[1, " + "[" * 100_000, "element 2: .*recursion"),
        (b'[1,\n"\xff"]', "line 2: not UTF-8"),
    ],
)
def test_an_array_that_does_not_parse(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"x\.json: .*{message}"):
        scan_file(write(tmp_path / "x.json", content))


# --- bad lines ---------------------------------------------------------------------------------------


def test_a_bad_byte_in_line_7_is_named(tmp_path):
    lines = [b'{"a": %d}' % i for i in range(10)]
    lines[6] = b'{"a": "caf\xe9"}'
    rows = read_lines(tmp_path, b"\n".join(lines))
    (bad,) = [row for row in rows if row.reason]
    assert (bad.file, bad.row, bad.reason, bad.value) == ("rows.jsonl", 7, "invalid_utf8", None)
    assert bad.detail == "byte 11 of the line: invalid continuation byte" and bad.raw == '{"a": "caf�"}'
    assert len(rows) == 10


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        ("{'a': 1}", "not_json", "column 2: Expecting property name"),
        ('{"a": 1} {"a": 2}', "not_json", "column 10: Extra data"),
        ("[" * 100_000, "not_json", "nested deeper than 200"),
        ('{"a": ' + "[" * 250 + "]" * 250 + "}", "not_json", "nested deeper than 200"),
        ('{"a": ' + "9" * 5000 + "}", "not_json", "4300"),
        ('{"a": "\\ud83d"}', "invalid_utf8", r"\\ud83d is half a surrogate pair"),
        ('{"\\uDE00": 1}', "invalid_utf8", "half a surrogate"),
        (b'{"a": "\xed\xa0\x80"}', "invalid_utf8", "byte 8"),
        ("3", "not_an_object", "type int"),
        ("null", "not_an_object", "NoneType"),
        ('[{"a": 1}]', "not_an_object", r"list.*called \.json"),
        ("\x00", "not_json", "column 1"),
        ("\ufeff{}", "not_json", "BOM"),
    ],
)
def test_bad_lines(tmp_path, line, reason, detail):
    line = line.encode() if isinstance(line, str) else line
    rows = read_lines(tmp_path, b'{"ok": 1}\n' + line + b"\n{}\n")
    assert [row.reason for row in rows] == [None, reason, None]
    assert rows[1].row == 2 and len(rows[1].raw) <= 1000 and rows[1].raw.encode()
    assert re.search(detail, rows[1].detail)


def test_what_is_unusual_but_good(tmp_path):
    emoji, nested = json.dumps({"a": "😀"}), '{"a": ' + "[" * 150 + "]" * 150 + "}"
    rows = read_lines(tmp_path, f'{{"a": 1, "a": 2}}\r\n{{"a": NaN}}\n{emoji}\n{nested}\n{{"a": "\u2028"}}')
    assert [row.reason for row in rows] == [None] * 5
    assert rows[0].value == {"a": 2} and rows[0].raw == '{"a": 1, "a": 2}'
    assert np.isnan(rows[1].value["a"]) and rows[2].value == {"a": "😀"} and rows[4].value == {"a": "\u2028"}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"\n", b'{"a": 1}', b"\xef\xbb\xbf", b" ", b"\r"])),
       st.integers(1, 5), st.integers(1, 5), st.sampled_from([4, 7, 1 << 20]))  # fmt: skip
def test_arbitrary_bytes_are_all_accounted_for(
    tmp_path_factory, parts, rows_per_mark, rows_per_unit, chunk_bytes
):
    content = b"".join(parts)
    path = write(tmp_path_factory.mktemp("any") / "x.jsonl", content)
    lines = [line for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    if not lines:
        with pytest.raises(InputError, match="empty"):
            scan_file(path)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "CHUNK_BYTES", chunk_bytes)
        scan = scan_file(path, rows_per_unit=rows_per_mark)
        rows = read_all(scan, rows_per_unit)
    assert scan.num_rows == len(rows) == len(lines)
    assert all((row.value is None) == (row.reason is not None) for row in rows)
    assert rows == read_all(scan)


# --- units -------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(['{"a": 1}', '{"a": "é"}', "", "  ", "bad", '{"a": "' + "x" * 50 + '"}']), min_size=1
    ),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(list(COMPRESS)),
)
def test_units_of_any_size_read_the_same(tmp_path_factory, lines, rows_per_mark, rows_per_unit, ending):
    content = ("\n".join(['{"a": 0}', *lines]) + "\n").encode()
    path = write(tmp_path_factory.mktemp("units") / f"x.jsonl{ending}", COMPRESS[ending](content))
    scan = scan_file(path, rows_per_unit=rows_per_mark)
    expected = [(i + 1, line) for i, line in enumerate(content.decode().split("\n")) if line.strip()]
    assert [(row.row, row.raw) for row in read_all(scan, rows_per_unit)] == expected


def test_a_file_of_many_chunks_reads_the_same_by_units(tmp_path):
    content = b"".join(b'{"n": %d, "t": "%s"}\n' % (i, b"x" * (i * 37 % 900)) for i in range(6000))
    for ending, compress in COMPRESS.items():
        scan = scan_file(write(tmp_path / f"x.jsonl{ending}", compress(content)), rows_per_unit=1000)
        rows = read_all(scan, 1700)
        assert [row.value["n"] for row in rows] == list(range(6000)) and rows[-1].row == 6000


def test_plan_covers_every_row_once_and_units_are_small(tmp_path):
    long = scan_file(write(tmp_path / "a.jsonl", "{}\n" * 1000), rows_per_unit=1)
    short = scan_file(write_parquet(tmp_path / "b.parquet", 10))
    units = plan_units([long, short], 300)
    assert [(unit.file_index, unit.first_row, unit.num_rows) for unit in units] == [
        (0, 0, 300), (0, 300, 300), (0, 600, 300), (0, 900, 100), (1, 0, 10),
    ]  # fmt: skip
    assert all(len(pickle.dumps(unit)) < 1000 for unit in units)
    with pytest.raises(ValueError, match="rows_per_unit=0"):
        plan_units([long], 0)


def test_everything_pickles(tmp_path):
    scan = scan_file(write(tmp_path / "x.jsonl", '{"a": 1}\nbad\n'))
    (unit,) = plan_units([scan], 10)
    things = [scan, unit, *read_unit(unit)]
    assert pickle.loads(pickle.dumps(things)) == things


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".json", ".parquet"])
def test_keep_returns_those_rows_only(tmp_path, ending):
    if ending == ".parquet":
        path = write_parquet(tmp_path / "x.parquet", 50, row_group_size=7)
    else:
        text = json.dumps([{"id": i} for i in range(50)])
        text = text if ending == ".json" else text[1:-1].replace(", ", "\n")
        path = write(tmp_path / f"x{ending}", gzip.compress(text.encode()) if "gz" in ending else text)
    unit = plan_units([scan_file(path, rows_per_unit=8)], 20)[1]
    kept = list(read_unit(unit, np.array([0, 3, 19])))
    assert [(row.row, row.value["id"]) for row in kept] == [(21, 20), (24, 23), (40, 39)]
    assert list(read_unit(unit, np.array([], dtype=int))) == []
    assert list(read_unit(unit, np.arange(20))) == list(read_unit(unit))
    for wrong in ([3, 1], [1, 1], [-1], [20]):
        with pytest.raises(ValueError, match="keep must increase"):
            read_unit(unit, np.array(wrong))


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_a_file_that_changed_after_its_scan(tmp_path, ending):
    if ending == ".parquet":
        scan = scan_file(write_parquet(tmp_path / "x.parquet", 20))
        write_parquet(tmp_path / "x.parquet", 19)
    else:
        rows = ["{}"] * 20
        texts = [(f"[{','.join(rows[n:])}]" if ending == ".json" else "\n".join(rows[n:])) for n in (0, 1)]
        scan = scan_file(write(tmp_path / f"x{ending}", texts[0]))
        write(tmp_path / f"x{ending}", texts[1])
    with pytest.raises(InputError, match="changed since it was scanned"):
        read_all(scan)


# --- Parquet -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_per_unit", [1, 7, 30, 1000])
def test_parquet_by_units(tmp_path, rows_per_unit):
    path = write_parquet(tmp_path / "x.parquet", 100, row_group_size=30)
    scan = scan_file(path)
    assert (scan.format, scan.num_rows, scan.offsets) == ("parquet", 100, ())
    assert scan.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    rows = read_all(scan, rows_per_unit)
    assert [(row.row, row.value["id"]) for row in rows] == [(i + 1, i) for i in range(100)]
    assert json.loads(rows[3].raw) == rows[3].value and "é" in rows[3].raw
    schema = PARQUET.schema(path)
    tables = [read_unit_table(unit, schema) for unit in plan_units([scan], rows_per_unit)]
    assert pa.concat_tables(tables).equals(pq.read_table(path))


@pytest.mark.parametrize("content", [b"PAR1", b"not parquet at all, but long enough to look", b"PAR1" * 40])
def test_what_is_no_parquet(tmp_path, content):
    with pytest.raises(InputError, match=r"x\.parquet: not a readable Parquet file: "):
        scan_file(write(tmp_path / "x.parquet", content))


def test_truncated_parquet_is_named(tmp_path):
    path = Path(write_parquet(tmp_path / "x.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"x\.parquet: not a readable Parquet file"):
        scan_file(str(path))


def test_a_corrupt_row_group_names_file_and_rows(tmp_path):
    path = Path(write_parquet(tmp_path / "x.parquet", 100, row_group_size=50, write_page_checksum=True))
    scan = scan_file(str(path))
    start = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    first, second = plan_units([scan], 50)
    assert len(list(read_unit(first))) == len(list(read_unit(first, np.arange(50)))) == 50
    with pytest.raises(InputError, match=r"x\.parquet: rows 51 to 100 cannot be read, the file is corrupt"):
        list(read_unit(second))
    with pytest.raises(InputError, match="rows 51 to 100"):
        read_unit_table(second, PARQUET.schema(str(path)))


def test_page_checksums_are_checked_and_other_row_groups_left_alone(tmp_path):
    path = Path(
        write_parquet(tmp_path / "x.parquet", 100, row_group_size=50, write_page_checksum=True,
                      compression="none", use_dictionary=False)
    )  # fmt: skip
    first, second = plan_units([scan_file(str(path))], 50)
    path.write_bytes(path.read_bytes().replace(b"text 7 ", b"text 8 ", 1))
    with pytest.raises(InputError, match="rows 1 to 50 cannot be read"):
        list(read_unit(first))
    assert [row.value["id"] for row in read_unit(second)] == list(range(50, 100))


def test_zero_row_parquet_is_valid_beside_others_only(tmp_path):
    empty = scan_file(write_parquet(tmp_path / "a.parquet", 0))
    assert len(plan_units([empty, scan_file(write_parquet(tmp_path / "b.parquet", 3))], 2)) == 2
    with pytest.raises(InputError, match=r"hold no rows: .*a\.parquet"):
        plan_units([empty], 2)


def test_parquet_values_that_json_lacks(tmp_path):
    noon = datetime.datetime(2024, 1, 2, 12, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "when": pa.array([noon], pa.timestamp("us", "UTC")),
            "nano": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")),
            "took": pa.array([1_500_000_001], pa.duration("ns")),
            "clock": pa.array([1_000_000_001], pa.time64("ns")),
            "price": pa.array([decimal.Decimal("1.50")]),
            "image": pa.array([b"\xff\x00"]),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "parts": pa.array([[{"x": noon.date()}]]),
            "kind": pa.array(["a"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    (row,) = read_all(scan_file(str(tmp_path / "x.parquet")))
    assert json.loads(row.raw) == {
        "when": "2024-01-02T12:00:00+00:00", "nano": "2023-11-14T22:13:20.123456", "took": "0:00:01.500000",
        "clock": "00:00:01", "price": "1.50", "image": "/wA=", "map": [["k", 1]],
        "parts": [{"x": "2024-01-02"}], "kind": "a",
    }  # fmt: skip
    assert row.value["nano"] == datetime.datetime(2023, 11, 14, 22, 13, 20, 123456)


def test_a_parquet_string_that_is_not_utf8_spoils_its_row_only(tmp_path):
    strings = pa.array([b"good", b"caf\xe9", b"also good"]).view(pa.string())
    pq.write_table(pa.table({"id": [0, 1, 2], "text": strings}), tmp_path / "x.parquet")
    rows = read_all(scan_file(str(tmp_path / "x.parquet")))
    assert [row.reason for row in rows] == [None, "invalid_utf8", None]
    assert rows[1].row == 2 and json.loads(rows[1].raw) == {"id": 1, "text": "caf�"}


def test_a_date_beyond_python_is_a_bad_row(tmp_path):
    pq.write_table(pa.table({"when": pa.array([0, 2**61], pa.timestamp("us"))}), tmp_path / "x.parquet")
    rows = read_all(scan_file(str(tmp_path / "x.parquet")))
    assert [row.reason for row in rows] == [None, "wrong_type"]


def test_schemas_unify_over_missing_and_null_columns(tmp_path):
    tables = [
        pa.table({"a": [1], "n": pa.nulls(1)}).replace_schema_metadata({"made": "here"}),
        pa.table({"n": ["x"], "b": [2.0]}),
    ]
    paths = [str(tmp_path / f"{i}.parquet") for i in range(2)]
    for table, path in zip(tables, paths, strict=True):
        pq.write_table(table, path)
    scans = [scan_file(path) for path in paths]
    schema = unify_schemas(scans)
    assert schema == pa.schema([("a", pa.int64()), ("n", pa.string()), ("b", pa.float64())])
    assert schema.metadata == {b"made": b"here"}
    read = pa.concat_tables([read_unit_table(unit, schema) for unit in plan_units(scans, 10)])
    assert read.to_pylist() == [{"a": 1, "n": None, "b": None}, {"a": None, "n": "x", "b": 2.0}]
    with pytest.raises(InputError, match=r"columns \['n'\] are not in the schema"):
        read_unit_table(plan_units(scans, 10)[0], pa.schema([("a", pa.int64())]))


def test_schemas_that_disagree_name_file_and_column(tmp_path):
    for name, values in [("a", [1]), ("b", ["x"])]:
        pq.write_table(pa.table({"c": values}), tmp_path / f"{name}.parquet")
    scans = [scan_file(str(tmp_path / f"{name}.parquet")) for name in "ab"]
    with pytest.raises(InputError, match=r"b\.parquet: column 'c' is string, but int64 in .*a\.parquet"):
        unify_schemas(scans)
    lines = scan_file(write(tmp_path / "c.jsonl", "{}\n"))
    assert unify_schemas([scans[0], lines]) == pa.schema([("c", pa.int64())]), "lines have no types to differ in"
    assert unify_schemas([lines]) is None


# --- the whole ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "num_rows"), [("alpaca.parquet", 51_953), ("clinical.parquet", 3_588)])
def test_real_data_by_units(name, num_rows):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    scan = scan_file(str(path))
    units: list[Unit] = plan_units([scan], 4096)
    rows = [row for unit in units for row in read_unit(unit)]
    assert len(rows) == scan.num_rows == num_rows and not any(row.reason for row in rows)
    expected = pq.read_table(path)
    assert [row.value["id"] for row in rows] == expected["id"].to_pylist()
    middle = units[len(units) // 2]
    assert read_unit_table(middle, expected.schema) == expected.slice(middle.first_row, middle.num_rows)


def test_the_package_loads_neither_torch_nor_ray():
    modules = ["listing", "streams", "scanning", "units", "reading", "parsing", "shape", "reasons", "files.parquet",
               "files.json", "shapes.messages", "shapes.alpaca"]
    code = f"import sys, {', '.join(f's2l_ray.rows.{m}' for m in modules)}; "
    code += "assert not {'torch', 'ray', 'transformers', 'pandas'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
