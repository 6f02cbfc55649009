"""One streaming pass over a file: its content hash, its number of rows, and where a reader can seek."""

import functools
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import FORMATS
from s2l_ray.rows.file_format import Marks, TypedFormat
from s2l_ray.rows.listing import file_names, format_by_ending, known_endings, list_files
from s2l_ray.rows.streams import read_chunks
from s2l_ray.rows.units import FileScan
from s2l_ray.storage.files import resolve

ROWS_PER_UNIT = 4096
"""Rows of one task, between two places where a reader can seek."""


class _Digest:
    """SHA-256 and length of the stored bytes seen so far."""

    def __init__(self) -> None:
        self.sha256, self.num_bytes = hashlib.sha256(), 0

    def __call__(self, chunk: bytes) -> None:
        self.sha256.update(chunk)
        self.num_bytes += len(chunk)


def scan_all(path: str, split: str | None = None, more: Sequence[str] = ()) -> tuple[FileScan, ...]:
    """Scan the files that a path means, and those that further ones do, side by side.

    Raises
    ------
    InputError
        As `list_files` and `scan_file`; or a file is meant twice.
    """
    uris = [*list_files(path, split), *(uri for one in more for uri in _of_more(one))]
    twice = next((uri for place, uri in enumerate(uris) if uri in uris[:place]), None) if more else None
    if twice is not None:
        raise InputError(f"data.more: {twice} is one of the rows' files already: leave it out")
    with ThreadPoolExecutor() as threads:
        return tuple(threads.map(lambda uri, name: scan_once(uri, rows_per_unit=ROWS_PER_UNIT, name=name),
                                 uris, file_names(uris)))


def _of_more(path: str) -> list[str]:
    try:
        return list_files(path)
    except InputError as error:
        raise InputError(f"data.more: {error} (data.split is of the other rows: name files here)") from error


def scan_once(uri: str, *, rows_per_unit: int, name: str) -> FileScan:
    """Scan a file as `scan_file` does, or answer from memory if its size and time of change are what they were.

    A sweep plans dozens of runs over the same files, which may be large and far away.
    """
    filesystem, path = resolve(uri)
    info = filesystem.get_file_info(path)
    if info.mtime_ns is None:
        return scan_file(uri, rows_per_unit=rows_per_unit, name=name)
    return _scan_of(uri, rows_per_unit, name, info.size, info.mtime_ns)


@functools.lru_cache(maxsize=4096)
def _scan_of(uri: str, rows_per_unit: int, name: str, size: int, mtime_ns: int) -> FileScan:
    return scan_file(uri, rows_per_unit=rows_per_unit, name=name)


def scan_file(uri: str, *, rows_per_unit: int = 4096, name: str | None = None) -> FileScan:
    """Read a file once: hash it, count its rows and note where every `rows_per_unit`-th row starts.

    Rows are the non-blank lines of JSONL, the elements of a JSON array (which is held in memory), the rows
    of Parquet. A Parquet file of zero rows is valid, as Spark writes them. `name` is what reports call the
    file, by default its base name.

    Raises
    ------
    InputError
        The file is missing, empty or of unknown ending; a Parquet file, compressed stream or JSON array
        is truncated or corrupt; a .json file holds neither an array nor one object a line.
    """
    if rows_per_unit < 1:
        raise ValueError(f"rows_per_unit={rows_per_unit} must be at least 1")
    ending = format_by_ending(uri.partition("?")[0] if "://" in uri else uri)
    if ending is None:
        raise InputError(f"{uri}: unknown ending. Known endings: {known_endings()}.")
    (name_of_format, compression), digest, marks = ending, _Digest(), Marks(rows_per_unit)
    chunks = read_chunks(uri, compression, on_stored=digest)
    found = FORMATS.find(FORMATS.find(name_of_format).scan(uri, compression, chunks, marks))
    if digest.num_bytes == 0:
        raise InputError(f"{uri}: the file is empty (0 bytes)")
    if marks.num_rows == 0 and not isinstance(found, TypedFormat):
        raise InputError(f"{uri}: the file is empty: it holds no rows")
    return FileScan(
        uri=uri,
        name=file_names([uri])[0] if name is None else name,
        format=found.name,
        compression=compression,
        num_rows=marks.num_rows,
        num_bytes=digest.num_bytes,
        sha256=digest.sha256.hexdigest(),
        rows_per_mark=rows_per_unit,
        offsets=tuple(marks.offsets),
        lines=tuple(marks.lines),
    )
