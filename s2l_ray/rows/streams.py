"""Stored bytes, decompressed chunks and lines, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.fs as pafs

from s2l_ray.errors import InputError
from s2l_ray.rows.listing import Compression
from s2l_ray.storage.files import resolve

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20
BOM = b"\xef\xbb\xbf"


def open_input(uri: str) -> pa.NativeFile:
    """Open the stored bytes of a file for random access.

    Raises
    ------
    InputError
        There is no such file, it is a folder, or it cannot be opened.
    """
    filesystem, path = resolve(uri)
    try:
        kind = filesystem.get_file_info(path).type
        if kind == pafs.FileType.File:
            return filesystem.open_input_file(path)
    except OSError as error:
        raise InputError(f"{uri}: cannot be opened: {error}") from error
    problem = "no such file" if kind == pafs.FileType.NotFound else "is a folder, not a file"
    raise InputError(f"{uri}: {problem}")


class _StoredBytes:
    """The file object that Arrow decompresses from: shows each chunk, and remembers its own failure."""

    closed = False

    def __init__(self, source: pa.NativeFile, on_stored: Callable[[bytes], object] | None) -> None:
        self.source, self.on_stored = source, on_stored
        self.failure: OSError | None = None

    def read(self, num_bytes: int = -1) -> bytes:
        try:
            chunk = self.source.read(num_bytes)
        except OSError as error:
            self.failure = error
            raise
        if self.on_stored:
            self.on_stored(chunk)
        return chunk

    def close(self) -> None:
        self.closed = True


def read_chunks(
    uri: str,
    compression: Compression | None,
    *,
    start: int = 0,
    end: int | None = None,
    on_stored: Callable[[bytes], object] | None = None,
) -> Iterator[bytes]:
    """Yield the decompressed bytes `start` to `end` of a file in chunks of at most 1 MiB.

    A compressed file is decompressed from its beginning, whatever `start` is. `on_stored` is called with
    the bytes as they are stored, for a content hash; give it only when reading the whole file.

    Raises
    ------
    InputError
        The file is missing, or its compressed stream is truncated or corrupt.
    """
    with open_input(uri) as source:
        stored = _StoredBytes(source, on_stored)
        if compression:
            stream, position = pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), compression), 0
        else:
            stream, position = stored, source.seek(start)
        while end is None or position < end:
            wanted = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - position)
            try:
                chunk = stream.read(wanted)
            except (OSError, pa.ArrowException) as error:
                if stored.failure is not None:
                    raise
                problem = f"the {compression} stream is truncated or corrupt"
                raise InputError(f"{uri}: {problem}: {error}") from error
            if not chunk:
                break
            if position + len(chunk) > start:
                yield chunk[max(0, start - position) :]
            position += len(chunk)


def iter_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines without their line feed; of one longer than 64 MiB, its first 64 MiB and one byte."""
    pieces: list[bytes] = []
    room = MAX_LINE_BYTES + 1
    for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        pieces.append(first[:room])
        room -= len(pieces[-1])
        if rest:
            yield b"".join(pieces)
            yield from rest[:-1]
            pieces = [rest[-1]]
            room = MAX_LINE_BYTES + 1 - len(rest[-1])
    if last := b"".join(pieces):
        yield last


def is_blank(line: bytes) -> bool:
    """Tell whether a line holds no row."""
    return not line or line.isspace()
