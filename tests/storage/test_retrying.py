"""A store that fails for a while, over real HTTP: .venv/bin/pytest tests/storage/test_retrying.py"""

import socket
import threading
import time
import uuid

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from s2l_ray.storage.files import Storage
from s2l_ray.storage.retrying import may_pass

_OUTAGE_S = 12.0  # longer than the client library itself keeps trying


class Line:
    """Passes bytes on to a server; while it is cut, every connection is dropped."""

    def __init__(self, host, port):
        self.target, self.is_cut, self.num_dropped = (host, port), threading.Event(), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return  # closed at the end of the test
            if self.is_cut.is_set():
                self.num_dropped += 1
                client.close()
                continue
            server = socket.create_connection(self.target)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source, sink):
        try:
            while (content := source.recv(65536)) and not self.is_cut.is_set():
                sink.sendall(content)
        except OSError:
            self.num_dropped += 1
        finally:
            for end in (source, sink):
                end.close()


@pytest.fixture(scope="module")
def line():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    line = Line(*server.get_host_and_port())
    pafs.S3FileSystem(endpoint_override=line.address, scheme="http", allow_bucket_creation=True).create_dir("bucket")
    yield line
    line.listener.close()
    server.stop()


@pytest.fixture
def storage(line):
    line.is_cut.clear()
    yield Storage.open(f"s3://bucket/{uuid.uuid4().hex}?endpoint_override={line.address}&scheme=http")
    line.is_cut.clear()


@pytest.mark.slow
def test_an_outage_is_waited_for(line, storage, caplog):
    table = pa.table({"id": ["a"]})
    before = line.num_dropped
    line.is_cut.set()
    threading.Timer(_OUTAGE_S, line.is_cut.clear).start()
    started = time.monotonic()
    storage.write_table("folder/table.parquet", table)
    assert time.monotonic() - started > _OUTAGE_S - 1 and line.num_dropped > before
    assert "trying again in" in caplog.text
    line.is_cut.set()
    threading.Timer(_OUTAGE_S, line.is_cut.clear).start()
    assert storage.read_table("folder/table.parquet") == table
    assert storage.list_names("folder") == ["table.parquet"]


@pytest.mark.slow
def test_an_outage_that_stays_is_an_error_that_says_what_to_do(line, storage):
    line.is_cut.set()
    impatient = Storage(storage.uri, patience_s=1.0)
    with pytest.raises(OSError, match=r"failed \d+ times in \d+ s: .*Check the network and the store, then run again"):
        impatient.write_bytes("file", b"content")


def test_what_is_refused_for_good_is_not_asked_for_again(storage, caplog):
    started = time.monotonic()
    with pytest.raises(OSError, match=r"NO_SUCH_KEY|does not exist"):
        storage.read_bytes("nothing-here")
    assert time.monotonic() - started < 3
    assert "trying again" not in caplog.text


def test_a_folder_fails_at_once(tmp_path):
    started = time.monotonic()
    with pytest.raises(FileNotFoundError):
        Storage(str(tmp_path)).read_bytes("nothing-here")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(("error", "expected"), [
    (OSError("When reading: AWS Error NETWORK_CONNECTION during GetObject operation"), True),
    (OSError("AWS Error SLOW_DOWN during PutObject operation"), True),
    (OSError("AWS Error ACCESS_DENIED during HeadBucket operation"), False),
    (FileNotFoundError("gone"), False), (PermissionError("no"), False), (ValueError("other"), False),
])
def test_what_may_pass(error, expected):
    assert may_pass(error) is expected
