"""Where a run keeps its files: a disk that can be filled or made read-only, an S3 server behind a bad link."""

import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.fs as pafs
from chaos_cluster import end_all, family_of, free_port, wait_for

from s2l_ray.storage.files import Storage

_CHUNK = 1 << 16


class Disk:
    """A file system in memory of a given size, mounted on a folder (needs root)."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder, self._filler = folder, folder / ".filler"
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", folder], check=True)

    def fill(self) -> None:
        """Leave no byte."""
        with self._filler.open("ab") as stream:
            size = 1 << 24
            while size:
                try:
                    os.posix_fallocate(stream.fileno(), os.fstat(stream.fileno()).st_size, size)
                except OSError:
                    size >>= 1
                    size -= size % 4096

    def free(self) -> None:
        """Take the filler away."""
        self._filler.unlink(missing_ok=True)

    def remount(self, mode: str) -> None:
        """Make it read-only (`ro`) or writable (`rw`); a file open for writing keeps it busy for a moment."""
        command = ["mount", "-o", f"remount,{mode}", str(self.folder)]
        if not wait_for(lambda: not subprocess.run(command, capture_output=True, check=False).returncode, 20, 0.01):
            raise TimeoutError(f"{self.folder} stays busy")

    def close(self) -> None:
        """Unmount it, also while a process stands in it."""
        subprocess.run(["umount", "--lazy", self.folder], check=False)
        self.folder.rmdir()


class FlakyLink:
    """A TCP proxy that passes everything on, and for some seconds resets or swallows a share of what is sent."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._share, self._resets, self._rng = 0.0, True, random.Random(0)
        self.num_dropped = 0
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def dropping(self, share: float, *, resets: bool, seed: int) -> Iterator[None]:
        """Lose this share of the requests while the block runs: by a reset, or by never an answer."""
        self._rng, self._resets, self._share = random.Random(seed), resets, share
        try:
            yield
        finally:
            self._share = 0.0

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()
        self._pass_on(client, server, True)

    def _pass_on(self, source: socket.socket, target: socket.socket, may_drop: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if may_drop and self._share and self._rng.random() < self._share:
                    self.num_dropped += 1
                    self._drop(source)
                    break
                target.sendall(chunk)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _drop(self, client: socket.socket) -> None:
        if self._resets:  # closing without lingering sends RST
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        while not self._resets and self._share:
            time.sleep(0.1)

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()


class ObjectStore:
    """An S3 server in a process of its own, reached by runs over the link and by us directly."""

    def __init__(self, environment: dict[str, str]) -> None:
        port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )
        self._port, self.link = port, FlakyLink(port)
        if not wait_for(self._answers, 60, 0.5):
            raise TimeoutError("the S3 server did not start")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            pafs.S3FileSystem(endpoint_override=f"127.0.0.1:{self._port}", scheme="http", region="us-east-1",
                              allow_bucket_creation=True).create_dir("chaos")
            return True
        return False

    def uri(self, name: str, *, direct: bool) -> str:
        """Return the URI of a storage, over the link or without it."""
        port = self._port if direct else self.link.port
        return f"s3://chaos/{name}?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"

    def close(self) -> None:
        """End the server."""
        self.link.close()
        end_all(family_of(psutil.Process(self._process.pid)))
        self._process.wait()


class Place:
    """The storage of one run: the URI that the run gets, and the same files for us to look at."""

    def __init__(self, uri: str, direct: str) -> None:
        self.uri, self.storage = uri, Storage(direct)

    def fill(self, source: Path, stages: tuple[str, ...]) -> None:
        """Copy the finished artifacts of these stages; they keep their names, so a run reuses them."""
        for stage in stages:
            if (source / stage).is_dir():
                self.storage.filesystem.create_dir(self.storage.path(stage), recursive=True)
                pafs.copy_files(str(source / stage), self.storage.path(stage), pafs.LocalFileSystem(),
                                self.storage.filesystem)

    def files(self) -> dict[str, tuple[int, int]]:
        """Return time of writing and size of every file, hidden ones not counted."""
        selector = pafs.FileSelector(self.storage.path(), recursive=True, allow_not_found=True)
        for _ in range(20):
            try:
                infos = self.storage.filesystem.get_file_info(selector)
                break
            except FileNotFoundError:  # a folder vanished while we walked
                continue
        found = {info.path.removeprefix(f"{self.storage.path()}/"): info for info in infos
                 if info.type == pafs.FileType.File and not info.base_name.startswith(".")}
        return {path: (info.mtime_ns, info.size) for path, info in sorted(found.items())}

    def has_preflight(self) -> bool:
        """Tell whether a run's nodes are writing and reading the storage for a trial now."""
        infos = self.storage.filesystem.get_file_info(pafs.FileSelector(self.storage.path(), allow_not_found=True))
        return any(info.base_name.startswith(".preflight-") for info in infos)
