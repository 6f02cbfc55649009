"""Storage, the same suite on a folder and on an S3 server over HTTP: whole files or none."""

import json
import multiprocessing
import pickle
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.storage.files import SCHEMA_VERSION, Storage, resolve
from s2l_ray.tables.schemas import metadata_of, with_metadata

TABLE = pa.table({"id": ["a", "b"], "losses": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))})


@pytest.fixture(scope="module")
def s3_server():
    """Host and port of an S3 server on the loopback, with one bucket `bucket`; requests go over real HTTP."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as environment:
        for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
                            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}.items():
            environment.setenv(name, value)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            address = "{}:{}".format(*server.get_host_and_port())
            maker = pafs.S3FileSystem(endpoint_override=address, scheme="http", allow_bucket_creation=True)
            maker.create_dir("bucket")
            yield address
        finally:
            server.stop()


@pytest.fixture(params=["folder", "s3"])
def uri(request, tmp_path):
    """The URI of a storage of the test's own."""
    if request.param == "folder":
        return str(tmp_path / "storage")
    address = request.getfixturevalue("s3_server")
    return f"s3://bucket/{uuid.uuid4().hex}/runs-of-mine?endpoint_override={address}&scheme=http"


@pytest.fixture
def storage(uri):
    return Storage.open(uri)


def all_files(storage):
    """Every file below the root, hidden ones too."""
    found = storage.filesystem.get_file_info(pafs.FileSelector(storage.path(), recursive=True, allow_not_found=True))
    return sorted(info.path.removeprefix(storage.path() + "/") for info in found if info.type == pafs.FileType.File)


# --- opening -----------------------------------------------------------------------------------------


def test_opening_marks_the_storage_and_leaves_no_probe(storage):
    assert all_files(storage) == ["s2l-storage.json"]
    assert storage.read_json("s2l-storage.json") == {"schema_version": SCHEMA_VERSION}


def test_opening_again_changes_nothing(storage):
    before = storage.filesystem.get_file_info(storage.path("s2l-storage.json")).mtime_ns
    again = Storage.open(storage.uri)
    assert again == storage
    assert storage.filesystem.get_file_info(storage.path("s2l-storage.json")).mtime_ns == before


def test_many_may_open_at_once(uri):
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(Storage.open, [uri] * 16))) == 1


def test_another_schema_version_is_refused(storage):
    storage.write_json("s2l-storage.json", {"schema_version": 99})
    with pytest.raises(InputError, match=f"schema version 99, this program writes {SCHEMA_VERSION}: set storage="):
        Storage.open(storage.uri)


def test_a_place_that_cannot_be_written_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot be written: .*Set storage= to a place you own"):
        Storage.open(str(tmp_path / "file" / "below"))


def test_a_bucket_that_is_not_there_is_refused_with_the_remedy(s3_server):
    with pytest.raises(InputError, match=r"cannot be written: .*Set storage= to a place you own"):
        Storage.open(f"s3://nobody-has-this/x?endpoint_override={s3_server}&scheme=http")


@pytest.mark.parametrize("bad", ["nonsense://x/y", "file://host with space/x"])
def test_bad_uris(bad):
    with pytest.raises(InputError, match="is not a usable path or storage URI"):
        resolve(bad)


def test_relative_and_home_paths_become_absolute_since_workers_run_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Storage.open("./out").uri == str(tmp_path / "out")
    assert Storage.open("~/out").uri == str(tmp_path / "home" / "out")
    assert Storage.open(f"file://{tmp_path}/out").uri == str(tmp_path / "out")


# --- whole or not at all -----------------------------------------------------------------------------


@pytest.mark.parametrize("blow", [RuntimeError("disk full"), KeyboardInterrupt()])
def test_a_crash_while_writing_leaves_nothing(storage, blow):
    with (pytest.raises(type(blow)), storage.writing("a/b/x.bin") as path,
          storage.filesystem.open_output_stream(path) as stream):
        stream.write(b"half")
        raise blow
    assert not storage.exists("a/b/x.bin")
    assert all_files(storage) == ["s2l-storage.json"]


def test_a_crash_before_anything_is_written(storage):
    with pytest.raises(RuntimeError, match="early"), storage.writing("a/x.bin"):
        raise RuntimeError("early")
    assert all_files(storage) == ["s2l-storage.json"]


def test_what_cannot_be_serialised_leaves_nothing_and_keeps_what_was_there(storage):
    storage.write_table("t.parquet", TABLE)
    storage.write_json("j.json", [1])
    with pytest.raises(NotImplementedError, match="struct type"):
        storage.write_table("t.parquet", pa.table({"a": pa.array([{}])}))
    with pytest.raises(TypeError, match="not JSON serializable"):
        storage.write_json("j.json", {1, 2})
    assert storage.read_table("t.parquet").equals(TABLE)
    assert storage.read_json("j.json") == [1]
    assert all_files(storage) == ["j.json", "s2l-storage.json", "t.parquet"]


def test_a_process_that_dies_while_writing_publishes_nothing(storage):
    program = """
import os, sys
from s2l_ray.storage.files import Storage
storage = Storage(sys.argv[1])
with storage.writing("a/x.bin") as path, storage.filesystem.open_output_stream(path) as stream:
    stream.write(b"half")
    stream.flush()
    os._exit(9)
"""
    died = subprocess.run([sys.executable, "-c", program, storage.uri], check=False, capture_output=True)
    assert died.returncode == 9, died.stderr
    assert not storage.exists("a/x.bin")
    assert storage.list_names("a") == []  # on a folder a hidden file is left, and hidden it stays


def test_writing_replaces_the_whole_file(storage):
    storage.write_bytes("x", b"a long first content")
    storage.write_bytes("x", b"short")
    assert storage.read_bytes("x") == b"short"


def test_writers_of_one_name_do_not_mix(storage):
    contents = [bytes([n]) * 100_000 for n in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: storage.write_bytes("x", content), contents))
    assert storage.read_bytes("x") in contents
    assert all_files(storage) == ["s2l-storage.json", "x"]


# --- names -------------------------------------------------------------------------------------------


def test_names_are_sorted_one_level_deep_and_without_temporaries(storage):
    for name in ("runs/b.json", "runs/a.json", "runs/deep/c.json", "runs/.hidden", "other"):
        storage.write_bytes(name, b"x")
    assert storage.list_names("runs") == ["a.json", "b.json", "deep"]
    assert storage.list_names("nowhere") == []


def test_sizes_are_those_of_files_directly_below(storage):
    for name, content in (("runs/b", b"xy"), ("runs/a", b""), ("runs/deep/c", b"x"), ("runs/.hidden", b"x")):
        storage.write_bytes(name, content)
    assert storage.list_sizes("runs") == {"a": 0, "b": 2}
    assert storage.list_sizes("nowhere") == {}


def test_exists_delete_and_delete_folder(storage):
    storage.write_bytes("a/b/c", b"x")
    assert [storage.exists(name) for name in ("a", "a/b", "a/b/c", "a/b/c/d", "b")] == [True] * 3 + [False] * 2
    storage.delete("a/b/c")
    assert not storage.exists("a/b/c")
    storage.write_bytes("a/b/c", b"x")
    storage.delete_folder("a")
    storage.delete_folder("a")  # not there any more
    assert not storage.exists("a")
    assert all_files(storage) == ["s2l-storage.json"]


def test_a_folder_named_like_a_partition_adds_no_column(storage):
    storage.write_table("lr=0.1/seed=3/t.parquet", TABLE)
    assert storage.read_table("lr=0.1/seed=3/t.parquet").column_names == ["id", "losses"]


def test_a_uri_below_opens_the_same_file(storage):
    storage.write_bytes("a/b.bin", b"x")
    filesystem, path = resolve(storage.uri_of("a/b.bin"))
    with filesystem.open_input_stream(path) as stream:
        assert stream.read() == b"x"


def test_uris_keep_their_query_at_the_end():
    assert Storage("s3://b/x/?region=r").uri_of("runs/a") == "s3://b/x/runs/a?region=r"
    assert Storage("gs://b").uri_of("runs/a") == "gs://b/runs/a"
    assert Storage("/data/what?/x").uri_of("runs/a") == "/data/what?/x/runs/a"


# --- contents ----------------------------------------------------------------------------------------


def test_bytes_json_and_tables_come_back(storage):
    storage.write_bytes("b", bytes(range(256)))
    storage.write_bytes("empty", b"")
    storage.write_json("j", {"z": [1, None, "é"], "a": 0.1})
    storage.write_table("t", with_metadata(TABLE, {"seed": 3}))
    assert storage.read_bytes("b") == bytes(range(256))
    assert storage.read_bytes("empty") == b""
    assert storage.read_json("j") == {"z": [1, None, "é"], "a": 0.1}
    table = storage.read_table("t")
    assert table.equals(TABLE) and table.schema.equals(TABLE.schema)
    assert metadata_of(table.schema) == {"seed": 3}
    assert storage.read_table("t", ["losses"]).column_names == ["losses"]


def test_json_is_for_people_too(storage):
    storage.write_json("j", {"b": 1, "a": 2})
    assert storage.read_bytes("j") == b'{\n  "a": 2,\n  "b": 1\n}\n'


def test_a_large_file_goes_up_in_parts_and_comes_back(storage, tmp_path):
    # 12 MB is more than one part of an S3 upload (at least 5 MiB).
    content = np.random.default_rng(0).bytes(12_000_000)
    (tmp_path / "large.bin").write_bytes(content)
    storage.upload_file(tmp_path / "large.bin", "models/large.bin")
    assert storage.read_bytes("models/large.bin") == content


def test_folders_go_up_and_are_local_again(storage, tmp_path):
    (tmp_path / "model" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "deep" / "w.bin").write_bytes(b"\0w")
    storage.upload_folder(tmp_path / "model", "proxy/point-0")
    assert all_files(storage) == ["proxy/point-0/config.json", "proxy/point-0/deep/w.bin", "s2l-storage.json"]
    with storage.local_folder("proxy/point-0") as folder:
        assert (folder / "config.json").read_text() == "{}"
        assert (folder / "deep" / "w.bin").read_bytes() == b"\0w"
    assert folder.exists() is storage.is_local, "a copy is for the block's time"


def test_a_storage_pickles_as_its_uri_and_works_elsewhere(storage):
    storage.write_bytes("x", b"here")  # the connection is open by now
    assert len(pickle.dumps(storage)) < 300
    assert pickle.loads(pickle.dumps(storage)) == storage
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(storage.read_bytes, ["x"]) == b"here"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=5), st.none() | st.floats(width=32), st.lists(st.integers(0, 99))),
                min_size=1), st.data())
def test_equal_tables_give_equal_bytes_however_they_are_chunked(tmp_path_factory, rows, data):
    names, losses, tokens = zip(*rows, strict=True)
    table = pa.table({"id": names, "loss": pa.array(losses, pa.float32()),
                      "ids": pa.array(tokens, pa.list_(pa.int32()))})
    cut = data.draw(st.integers(0, len(rows)))
    storage = Storage(str(tmp_path_factory.getbasetemp() / "equal-tables"))
    storage.write_table("a", table)
    storage.write_table("b", pa.concat_tables([table.slice(0, cut), table.slice(cut)]))
    assert storage.read_bytes("a") == storage.read_bytes("b")


def test_equal_large_tables_give_equal_bytes(tmp_path):
    numbers = np.random.default_rng(0).integers(0, 1 << 40, 300_000)  # several pages
    table = pa.table({"x": numbers, "text": [str(n) for n in numbers.tolist()]})
    storage = Storage(str(tmp_path))
    storage.write_table("a", table)
    storage.write_table("b", pa.concat_tables([table.slice(0, 777), table.slice(777, 100_001), table.slice(100_778)]))
    assert storage.read_bytes("a") == storage.read_bytes("b")


def test_an_older_marker_without_a_version_is_refused(storage):
    storage.write_bytes("s2l-storage.json", json.dumps({}).encode())
    with pytest.raises(InputError, match="holds schema version None"):
        Storage.open(storage.uri)


def test_a_folder_is_copied_to_this_machine_whole_and_once(storage, tmp_path):
    storage.write_bytes("proxy/one/manifest.json", b"{}")
    storage.write_bytes("proxy/one/point-00000002/weights", b"w" * 1000)
    local = tmp_path / "cache" / "proxy" / "one"
    storage.download_folder("proxy/one", local)
    found = {path.relative_to(local).as_posix(): path.read_bytes() for path in local.rglob("*") if path.is_file()}
    assert found == {"manifest.json": b"{}", "point-00000002/weights": b"w" * 1000}
    assert [path.name for path in local.parent.iterdir()] == ["one"], "nothing half is left"
    (local / "manifest.json").write_bytes(b"here")
    storage.download_folder("proxy/one", local)
    assert (local / "manifest.json").read_bytes() == b"here"
    with pytest.raises(FileNotFoundError):
        storage.download_folder("proxy/none", tmp_path / "cache" / "none")
    assert not (tmp_path / "cache" / "none").exists()
