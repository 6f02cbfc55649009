"""Hostile files: a message that names the file, or rows accounted for."""

import gzip
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.rows.listing import list_files
from s2l_ray.rows.originals import json_lines

LINE = b'{"prompt":"a","completion":"b"}\n'
ARRAY = b'[{"prompt":"a","completion":"b"},{"prompt":"c","completion":"d"}]'
TABLE = pa.table({"prompt": ["a", "c"], "completion": ["b", "d"]})


def parquet(table=TABLE, **options):
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue().to_pybytes()


def with_flipped_byte(content, place):
    changed = bytearray(content)
    changed[place] ^= 0xFF
    return bytes(changed)


LONG = parquet(pa.table({"prompt": [f"{i} {i * 7919}" for i in range(3000)], "completion": ["b"] * 3000}),
               write_page_checksum=True)

# Name -> (file, content, what the message says after the file's name)
BAD_FILES = {
    "empty jsonl": ("x.jsonl", b"", "the file is empty"),
    "blank lines": ("x.jsonl", b"\n\r\n \t\n", "holds no rows"),
    "only a byte order mark": ("x.jsonl", b"\xef\xbb\xbf", "holds no rows"),
    "UTF-16 jsonl": ("x.jsonl", LINE.decode().encode("utf-16"), "row 1: invalid_utf8"),
    "UTF-16 json": ("x.json", ARRAY.decode().encode("utf-16"), "must hold one array of objects"),
    "all carriage returns": ("x.jsonl", LINE.replace(b"\n", b"\r") * 2, "row 1: not_json"),
    "CSV called jsonl": ("x.jsonl", b"prompt,completion\na,b\n", "row 1: not_json"),
    "NUL bytes": ("x.jsonl", b"\0" * 5000, "row 1: not_json"),
    "array called jsonl": ("x.jsonl", ARRAY, "must be called .json"),
    "pickle called jsonl": ("x.jsonl", b"\x80\x04K\x01.", "row 1: invalid_utf8"),
    "array cut off": ("x.json", ARRAY[:-8], "not a readable JSON array: line 1, column"),
    "array without end": ("x.json", ARRAY[:-1], "not a readable JSON array: line 1, column"),
    "array with a trailing comma": ("x.json", ARRAY[:-1] + b",]", "not a readable JSON array"),
    "two arrays": ("x.json", ARRAY * 2, "Extra data after the array"),
    "array not UTF-8": ("x.json", b'[{"prompt":"\xe9"}]', "not UTF-8"),
    "array of numbers": ("x.json", b"[1,2]", "row 1: not_an_object"),
    "empty array": ("x.json", b"[]", "holds no rows"),
    "array 100,000 deep": ("x.json", b"[" * 100_000, "not a readable JSON array: element 1"),
    "array with a huge integer": ("x.json", b"[%s]" % (b"9" * 5000), "not a readable JSON array: element 1"),
    "container": ("x.json", b'{"data":[]}', "Wrap the objects in an array"),
    "gzip that is none": ("x.jsonl.gz", LINE, "the gzip stream is truncated or corrupt"),
    "gzip cut off": ("x.jsonl.gz", gzip.compress(LINE * 900)[:-9], "the gzip stream is truncated or corrupt"),
    "gzip with a tail": ("x.jsonl.gz", gzip.compress(LINE) + b"tail", "the gzip stream is truncated or corrupt"),
    "gzip with a flipped byte": ("x.jsonl.gz", with_flipped_byte(gzip.compress(LINE * 900), 40), "truncated or corrupt"),
    "zstd of wrong magic": ("x.jsonl.zst", LINE, "the zstd stream is truncated or corrupt"),
    "zstd cut off": ("x.jsonl.zst", zstandard.compress(LINE * 900)[:-5], "the zstd stream is truncated or corrupt"),
    "zstd with a tail": ("x.jsonl.zst", zstandard.compress(LINE) + b"tail", "the zstd stream is truncated or corrupt"),
    "zstd that is gzip": ("x.jsonl.zst", gzip.compress(LINE), "the zstd stream is truncated or corrupt"),
    "zstd of 100 MB of blanks": ("x.json.zst", zstandard.compress(b" " * 100_000_000), "holds no rows"),
    "bzip2 that is none": ("x.jsonl.bz2", LINE, "the bz2 stream is truncated or corrupt"),
    "empty zstd": ("x.jsonl.zst", b"", "the file is empty"),
    "empty parquet": ("x.parquet", b"", "the file is empty"),
    "jsonl called parquet": ("x.parquet", LINE, "not a readable Parquet file"),
    "parquet cut off": ("x.parquet", LONG[:-50], "not a readable Parquet file"),
    "only the magic bytes": ("x.parquet", b"PAR1", "not a readable Parquet file"),
    "corrupt footer": ("x.parquet", LONG[:-60] + b"\xff" * 52 + LONG[-8:], "not a readable Parquet file"),
    "footer longer than the file": ("x.parquet", LONG[:-8] + b"\xff\xff\xff\x7fPAR1", "not a readable Parquet file"),
    "corrupt page": ("x.parquet", with_flipped_byte(LONG, 200), "cannot be read, the file is corrupt"),
    "zero rows": ("x.parquet", parquet(TABLE.slice(0, 0)), "hold no rows"),
    "zero columns": ("x.parquet", parquet(pa.table({})), "hold no rows"),
    "a column twice": ("x.parquet", parquet(pa.table([["a"], ["b"], ["c"]], names=["prompt", "completion", "completion"])),
                       "are there more than once"),
    "columns of nulls": ("x.parquet", parquet(pa.table({"prompt": pa.nulls(2), "completion": pa.nulls(2)})), "is null"),
    "unknown ending": ("x.txt", b"a,b", "no file with a known ending"),
    "a header alone": ("x.csv", b"prompt,completion", "it holds no rows"),
    "a column of a CSV twice": ("x.csv", b"prompt,prompt\na,b", "names 'prompt' more than once"),
    "a quote that is never closed": ("x.csv", b"\"prompt,completion\na,b", "the header, line 1: quotes do not pair"),
    "compressed parquet": ("x.parquet.gz", gzip.compress(parquet()), "no file with a known ending"),
    "file name not UTF-8": (os.fsdecode(b"caf\xe9.jsonl"), LINE, "a file's name there is not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_by_name(case, accounts_of, tmp_path):
    name, content, message = BAD_FILES[case]
    with pytest.raises(InputError) as caught:
        accounts_of({name: content})
    said = str(caught.value)
    assert message in said
    assert str(tmp_path) in said


OTHER_TYPES = {
    "dictionary": lambda text: text.dictionary_encode(),
    "large_string": lambda text: text.cast(pa.large_string()),
    "string_view": lambda text: text.cast(pa.string_view()),
}


@pytest.mark.parametrize("case", OTHER_TYPES)
def test_texts_of_any_arrow_type_are_read(case, accounts_of):
    columns = [OTHER_TYPES[case](column.combine_chunks()) for column in TABLE.columns]
    accounts, kept = accounts_of({"x.parquet": pa.table(columns, names=TABLE.column_names)})
    assert accounts.num_examples == 2
    assert [json.loads(line) for line in json_lines(kept)] == TABLE.to_pylist()


NOT_UTF8 = pa.array([b"\xff", b"ok"], pa.binary()).view(pa.string())
MESSAGES = pa.array([[None, {"role": "assistant", "content": "x"}], None])

# Name -> (table, reasons by row, None for an example)
PARQUET_ROWS = {
    "numbers for texts": (pa.table({"prompt": [1, 2], "completion": [3, 4]}), ["wrong_type"] * 2),
    "bytes for texts": (pa.table({"prompt": [b"a", b"c"], "completion": ["b", "d"]}), ["wrong_type"] * 2),
    "structs for texts": (pa.table({"prompt": [{"a": 1}] * 2, "completion": ["b", "d"]}), ["wrong_type"] * 2),
    "some nulls": (pa.table({"prompt": ["a", None], "completion": ["b", "d"]}), [None, "missing_field"]),
    "text not UTF-8": (pa.table({"prompt": NOT_UTF8, "completion": ["b", "d"]}), ["invalid_utf8", None]),
    "other column not UTF-8": (TABLE.append_column("x", NOT_UTF8), ["invalid_utf8", None]),
    "nested nulls": (pa.table({"messages": pa.concat_arrays([MESSAGES])}), ["wrong_type", "missing_field"]),
    "map of messages": (pa.table({"messages": pa.array([[("role", "user")]] * 2, pa.map_(pa.string(), pa.string()))}),
                        ["wrong_type"] * 2),
    "date beyond Python's": (TABLE.append_column("t", pa.array([2**62, 1], pa.timestamp("us"))), ["wrong_type", None]),
    "bytes, decimals, dates aside": (TABLE.append_column("b", pa.array([b"\xff", None])).append_column(
        "d", pa.array([1, None], pa.decimal128(38, 2))), [None, None]),
    "NaN aside": (TABLE.append_column("f", pa.array([float("nan"), float("inf")])), [None, None]),
    "half floats aside": (TABLE.append_column("f", pa.array(np.array([1, 2], np.float16))), [None, None]),
    "a 10 MB text": (pa.table({"prompt": ["x" * 10_000_000, "a"], "completion": ["b", "b"]}), ["too_long", None]),
}


@pytest.mark.parametrize("case", PARQUET_ROWS)
def test_parquet_rows_of_odd_types(case, accounts_of):
    table, expected = PARQUET_ROWS[case]
    if all(reason == "missing_field" for reason in expected):
        table = pa.concat_tables([table, TABLE])
    accounts, kept = accounts_of({"x.parquet": table})
    found = {bad["row"]: bad["reason"] for bad in accounts.quarantine.to_pylist()}
    assert found == {row: reason for row, reason in enumerate(expected, start=1) if reason}
    for text in json_lines(kept):
        assert "NaN" not in text and isinstance(json.loads(text), dict)


MIXED = {
    "jsonl, json and parquet": ({"a.jsonl": LINE, "b.json": ARRAY, "c.parquet": TABLE}, (5, 2, 3)),
    "with an empty shard": ({"a.parquet": TABLE.slice(0, 0), "b.parquet": TABLE}, (2, 2, 0)),
    "with empty shards only before": ({f"{i}.parquet": TABLE.slice(0, 0) for i in range(5)} | {"z.jsonl": LINE}, (1, 1, 0)),
    "compressed and not": ({"a.jsonl": LINE, "b.jsonl.gz": gzip.compress(LINE), "c.jsonl.zst": zstandard.compress(LINE)},
                           (3, 1, 2)),
    "CRLF and a byte order mark": ({"a.jsonl": b"\xef\xbb\xbf" + LINE.replace(b"\n", b"\r\n"), "b.jsonl": LINE}, (2, 1, 1)),
    "no line feed at the end": ({"a.jsonl": LINE + LINE.strip()}, (2, 1, 1)),
    "blank lines between": ({"a.jsonl": b"\n\n" + LINE + b" \n\t\r\n" + LINE}, (2, 1, 1)),
    "hidden and other files beside": ({"a.jsonl": LINE, ".b.jsonl": b"x", "_c.jsonl": b"x", "README.md": b"x"}, (1, 1, 0)),
    "a name with a line feed": ({"a\nb.jsonl": LINE}, (1, 1, 0)),
    "a name in Hebrew": ({"שלום 🙂.jsonl": LINE}, (1, 1, 0)),
}


@pytest.mark.parametrize("case", MIXED)
def test_folders_of_many_kinds(case, accounts_of):
    files, expected = MIXED[case]
    accounts, _ = accounts_of(files)
    assert (accounts.num_read, accounts.num_examples, accounts.num_duplicates) == expected


def test_one_empty_jsonl_among_good_files_is_named(accounts_of):
    with pytest.raises(InputError, match=r"b\.jsonl: the file is empty"):
        accounts_of({"a.jsonl": LINE, "b.jsonl": b""})


def test_columns_of_two_types_in_two_files_are_named(accounts_of):
    with pytest.raises(InputError, match=r"b\.parquet: column 'prompt' is int64, but string in .*a\.parquet: give it one"):
        accounts_of({"a.parquet": TABLE, "b.parquet": pa.table({"prompt": [1], "completion": [2]})})


def test_a_folder_that_links_to_itself_ends(tmp_path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "a.jsonl").write_bytes(LINE)
    (tmp_path / "data" / "deep" / "loop").symlink_to(tmp_path / "data")
    try:
        assert str(tmp_path / "data" / "a.jsonl") in list_files(str(tmp_path / "data"))
    except InputError as error:
        assert "cannot be listed" in str(error)


@pytest.mark.parametrize("ask", ["", "/", "/*.jsonl", "/**"])
def test_a_link_out_of_a_data_folder_is_refused(ask, tmp_path):
    (tmp_path / "mine.jsonl").write_bytes(LINE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_bytes(LINE)
    (tmp_path / "data" / "b.jsonl").symlink_to(tmp_path / "mine.jsonl")
    with pytest.raises(InputError, match=r"b\.jsonl is a link to .*mine\.jsonl, outside the folder"):
        list_files(f"{tmp_path / 'data'}{ask}")
    assert list_files(str(tmp_path / "data" / "b.jsonl")), "who names the file means it"
    (tmp_path / "data" / "b.jsonl").unlink()
    (tmp_path / "data" / "c").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"outside the folder|cannot be listed"):
        list_files(str(tmp_path / "data"))


def test_links_within_a_data_folder_and_of_the_hubs_cache_are_followed(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "0f1e").write_bytes(LINE)
    commit = tmp_path / "snapshots" / "abc"
    commit.mkdir(parents=True)
    (commit / "a.jsonl").symlink_to("../../blobs/0f1e")
    (commit / "b.jsonl").symlink_to("a.jsonl")
    (tmp_path / "short").symlink_to(commit)
    assert len(list_files(str(commit))) == len(list_files(str(tmp_path / "short"))) == 2
    (commit / "c.jsonl").symlink_to("../../blobs/../mine.jsonl")
    (tmp_path / "mine.jsonl").write_bytes(LINE)
    with pytest.raises(InputError, match="outside the folder"):
        list_files(str(commit))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(1, 255), st.sampled_from(["flip", "cut"]))
def test_a_damaged_parquet_file_is_read_or_refused_in_words(accounts_of, place, mask, how):
    content = parquet(write_page_checksum=True)
    place %= len(content)
    changed = bytearray(content)
    changed[place] ^= mask
    try:
        accounts, _ = accounts_of({"x.parquet": bytes(changed) if how == "flip" else content[:place]})
    except InputError as error:
        assert "x.parquet" in str(error) or "columns" in str(error)
    else:
        assert accounts.num_read <= 2
