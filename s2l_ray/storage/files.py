"""Files on any storage URI (a folder, s3://, gs://): whole or not at all, readable by every node."""

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from s2l_ray.errors import InputError
from s2l_ray.storage.retrying import patient
from s2l_ray.storage.secrets import refuse_secret

SCHEMA_VERSION = 3
"""Of everything that a storage holds: its folders, tables, manifests and fingerprints."""

_MARKER = "s2l-storage.json"
_ASK_S = 5.0  # a mistyped place should be refused soon


def resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a URI or local path, and the path on it.

    Raises
    ------
    InputError
        The scheme is unknown, the URI is malformed or holds a password.
    """
    refuse_secret(uri)
    try:
        if "://" in uri:
            return pafs.FileSystem.from_uri(uri)
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{uri!r} is not a usable path or storage URI: {error}") from error


@dataclass(frozen=True)
class Storage:
    """A folder tree on a storage URI. Paths below are relative to its root, with forward slashes.

    Pickles as its URI, so tasks on other nodes open their own connection. Calls to an object store are made again
    while they fail (`retrying.patient`).
    """

    uri: str
    patience_s: float = field(default=60.0, compare=False, repr=False)
    """Seconds after which an object store that does not answer is given up."""

    @staticmethod
    def open(uri: str) -> "Storage":
        """Return the storage after proving that it can be written and holds this schema version.

        Raises
        ------
        InputError
            It cannot be written, or another schema version wrote it.
        """
        filesystem, root = resolve(uri)
        local = isinstance(filesystem, pafs.LocalFileSystem)
        storage = Storage(root if local else uri)
        probe = f".probe-{uuid.uuid4().hex}"
        asked = Storage(storage.uri, patience_s=_ASK_S)
        try:
            asked.write_bytes(probe, b"s2l")
            asked.delete(probe)
        except OSError as error:
            raise InputError(f"storage {uri!r} cannot be written: {error}. Set storage= to a place you own.") from error
        if not storage.exists(_MARKER):
            storage.write_json(_MARKER, {"schema_version": SCHEMA_VERSION})
        marker = storage.read_json(_MARKER)
        found = marker.get("schema_version") if isinstance(marker, dict) else None
        if found != SCHEMA_VERSION:
            raise InputError(
                f"storage {uri!r} holds schema version {found!r}, this program writes {SCHEMA_VERSION}: "
                "set storage= to another place, or use the version that wrote it (CHANGELOG.md names what changed)"
            )
        return storage

    def __reduce__(self) -> tuple[type["Storage"], tuple[str]]:
        return Storage, (self.uri,)

    @cached_property
    def _resolved(self) -> tuple[pafs.FileSystem, str]:
        return resolve(self.uri)

    @property
    def filesystem(self) -> pafs.FileSystem:
        """Return the Arrow file system."""
        return self._resolved[0]

    def path(self, relative: str = "") -> str:
        """Return the path on `filesystem`."""
        return f"{self._resolved[1].rstrip('/')}/{relative}".rstrip("/")

    @property
    def is_local(self) -> bool:
        """Tell whether paths are plain paths of this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @patient
    def exists(self, relative: str) -> bool:
        """Tell whether a file or folder is there."""
        return self.filesystem.get_file_info(self.path(relative)).type != pafs.FileType.NotFound

    @patient
    def list_names(self, relative: str) -> list[str]:
        """Return the sorted names of the complete files and folders directly below a folder (empty if none)."""
        selector = pafs.FileSelector(self.path(relative), allow_not_found=True)
        names = (info.base_name for info in self.filesystem.get_file_info(selector))
        return sorted(name for name in names if name and not name.startswith("."))

    @patient
    def list_sizes(self, relative: str) -> dict[str, int]:
        """Return the bytes of each complete file directly below a folder, by name."""
        selector = pafs.FileSelector(self.path(relative), allow_not_found=True)
        infos = (info for info in self.filesystem.get_file_info(selector) if info.type == pafs.FileType.File)
        return {info.base_name: info.size for info in infos if not info.base_name.startswith(".")}

    @contextlib.contextmanager
    def writing(self, relative: str) -> Iterator[str]:
        """Yield the path to write; the file appears under its name only if the block ends well.

        Object stores publish an object when its stream is closed, in a failing block too: then it is deleted again.
        Elsewhere a hidden file is renamed.
        """
        final = self.path(relative)
        parent, _, name = final.rpartition("/")
        if isinstance(self.filesystem, (pafs.S3FileSystem, pafs.GcsFileSystem)):
            temporary = final
        else:
            self.filesystem.create_dir(parent, recursive=True)
            temporary = f"{parent}/.{name}.{uuid.uuid4().hex}"
        try:
            yield temporary
            if temporary != final:
                self.filesystem.move(temporary, final)
        except BaseException:
            if self.filesystem.get_file_info(temporary).type != pafs.FileType.NotFound:
                self.filesystem.delete_file(temporary)
            raise

    @patient
    def write_bytes(self, relative: str, content: bytes | pa.Buffer) -> None:
        """Write one file, atomically."""
        with self.writing(relative) as path, self.filesystem.open_output_stream(path) as stream:
            stream.write(content)

    def write_json(self, relative: str, content: Any) -> None:
        """Write JSON for people and programs, atomically."""
        self.write_bytes(relative, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())

    def write_table(self, relative: str, table: pa.Table) -> None:
        """Write one Parquet file (zstd), atomically; equal tables give equal bytes."""
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        self.write_bytes(relative, buffer.getvalue())

    @patient
    def read_bytes(self, relative: str) -> bytes:
        """Read one file."""
        with self.filesystem.open_input_stream(self.path(relative)) as stream:
            return stream.read()

    def read_json(self, relative: str) -> Any:
        """Read one JSON file; InputError where it holds something else."""
        try:
            return json.loads(self.read_bytes(relative))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.uri_of(relative)}: not readable as JSON ({error}): delete it") from error

    @patient
    def read_table(self, relative: str, columns: list[str] | None = None) -> pa.Table:
        """Read one Parquet file; InputError where it is damaged."""
        # Through ParquetFile: read_table would take folder names such as key=value for partitions.
        with self.filesystem.open_input_file(self.path(relative)) as file, self._naming(relative):
            return pq.ParquetFile(file).read(columns=columns)

    @patient
    def read_footer(self, relative: str) -> tuple[pa.Schema, int]:
        """Return a Parquet file's schema and number of rows, without reading them."""
        with self.filesystem.open_input_file(self.path(relative)) as file, self._naming(relative):
            opened = pq.ParquetFile(file)
            return opened.schema_arrow, opened.metadata.num_rows

    @contextlib.contextmanager
    def _naming(self, relative: str) -> Iterator[None]:
        """Say which file it is that Arrow cannot read."""
        try:
            yield
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and not self.is_local:
                raise  # a connection that fails must not look like a damaged file
            folder = self.uri_of(relative.rpartition("/")[0])
            raise InputError(
                f"{self.uri_of(relative)}: not a readable Parquet file ({error}): delete {folder} and run again"
            ) from error

    @patient
    def delete(self, relative: str) -> None:
        """Delete one file."""
        self.filesystem.delete_file(self.path(relative))

    @patient
    def delete_folder(self, relative: str) -> None:
        """Delete a folder with all below it, if it is there."""
        if self.exists(relative):
            self.filesystem.delete_dir(self.path(relative))

    def uri_of(self, relative: str) -> str:
        """Return the URI (or local path) of something below, for people and for other programs."""
        base, mark, query = self.uri.partition("?") if "://" in self.uri else (self.uri, "", "")
        return f"{base.rstrip('/')}/{relative}{mark}{query}"

    @patient
    def upload_file(self, local: Path, relative: str) -> None:
        """Copy a local file here, atomically."""
        with self.writing(relative) as target:
            pafs.copy_files(str(local), target, pafs.LocalFileSystem(), self.filesystem)

    def upload_folder(self, local: Path, relative: str) -> None:
        """Copy a local folder's files here, each atomically."""
        for path in sorted(p for p in local.rglob("*") if p.is_file()):
            self.upload_file(path, f"{relative}/{path.relative_to(local).as_posix()}")

    @contextlib.contextmanager
    def local_folder(self, relative: str) -> Iterator[Path]:
        """Yield a local path with the folder's files: the folder itself, or a copy for the block's time."""
        if self.is_local:
            yield Path(self.path(relative))
            return
        with tempfile.TemporaryDirectory(prefix="s2l-") as temporary:
            self._download(relative, temporary)
            yield Path(temporary)

    def download_folder(self, relative: str, local: Path) -> None:
        """Copy a folder to this machine, where it appears when all of it is there; one that is there stays."""
        if local.exists():
            return
        local.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{local.name}-", dir=local.parent) as temporary:
            whole = Path(temporary) / "whole"
            whole.mkdir()
            self._download(relative, str(whole))
            whole.rename(local)

    @patient
    def _download(self, relative: str, target: str) -> None:
        pafs.copy_files(self.path(relative), target, self.filesystem, pafs.LocalFileSystem())


def resolve_local(uri: str) -> Path | None:
    """Return the folder that a URI or path means on this machine, or None for one elsewhere."""
    filesystem, path = resolve(uri)
    return Path(path) if isinstance(filesystem, pafs.LocalFileSystem) else None
