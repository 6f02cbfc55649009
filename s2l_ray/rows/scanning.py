"""One streaming pass over a file: its content hash, its number of rows, and where a reader can seek."""

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from s2l_ray.errors import InputError
from s2l_ray.rows.listing import KNOWN_ENDINGS, Compression, Kind, file_names, kind_by_ending
from s2l_ray.rows.parquet import num_parquet_rows
from s2l_ray.rows.parsing import iter_elements, parse_line, skip_space
from s2l_ray.rows.streams import BOM, is_blank, iter_lines, read_chunks
from s2l_ray.storage import resolve


@dataclass(frozen=True, slots=True)
class FileScan:
    """What one pass over a file found out. `offsets` and `lines` hold one entry per `rows_per_mark` rows."""

    uri: str
    name: str
    """What reports call the file."""
    kind: Kind
    """The layout found: a .json file of one object a line is jsonl."""
    compression: Compression | None
    num_rows: int
    num_bytes: int
    """Stored bytes, compressed where the file is."""
    sha256: str
    """Hex digest of the stored bytes."""
    rows_per_mark: int
    offsets: tuple[int, ...] = ()
    """Where in the decompressed bytes the rows 0, rows_per_mark, ... start; () for Parquet."""
    lines: tuple[int, ...] = ()
    """The 1-based line numbers of those rows; () for Parquet and JSON arrays."""


class _Digest:
    """SHA-256 and length of the stored bytes seen so far."""

    def __init__(self) -> None:
        self.sha256, self.num_bytes = hashlib.sha256(), 0

    def __call__(self, chunk: bytes) -> None:
        self.sha256.update(chunk)
        self.num_bytes += len(chunk)


@dataclass
class _Marks:
    """The rows counted so far, and where every `rows_per_mark`-th of them starts."""

    rows_per_mark: int
    num_rows: int = 0
    offsets: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def due(self) -> bool:
        return self.num_rows % self.rows_per_mark == 0


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
    ending = kind_by_ending(uri.partition("?")[0] if "://" in uri else uri)
    if ending is None:
        raise InputError(f"{uri}: unknown ending. Known endings: {KNOWN_ENDINGS}.")
    (kind, compression), digest, marks = ending, _Digest(), _Marks(rows_per_unit)
    chunks = read_chunks(uri, compression, on_stored=digest)
    if kind == "parquet":
        for _ in chunks:
            pass
        marks.num_rows = num_parquet_rows(uri) if digest.num_bytes else 0
    elif kind == "json":
        kind = _scan_json(uri, compression, chunks, marks)
    else:
        _scan_lines(chunks, marks)
    if digest.num_bytes == 0:
        raise InputError(f"{uri}: the file is empty (0 bytes)")
    if marks.num_rows == 0 and kind != "parquet":
        raise InputError(f"{uri}: the file is empty: it holds no rows")
    return FileScan(
        uri=uri,
        name=file_names([uri])[0] if name is None else name,
        kind=kind,
        compression=compression,
        num_rows=marks.num_rows,
        num_bytes=digest.num_bytes,
        sha256=digest.sha256.hexdigest(),
        rows_per_mark=rows_per_unit,
        offsets=tuple(marks.offsets),
        lines=tuple(marks.lines),
    )


def _scan_lines(chunks: Iterator[bytes], marks: _Marks) -> None:
    """Count the non-blank lines. Holds one chunk, however long the lines are."""
    first = next(chunks, b"")
    position = line_start = len(BOM) if first.startswith(BOM) else 0
    line_number, has_text = 1, False
    for chunk in chain([first[position:]], chunks):
        *ended, unfinished = chunk.split(b"\n")
        for part in ended:
            if has_text or not is_blank(part):
                _mark_line(marks, line_start, line_number)
            position += len(part) + 1
            line_start, line_number, has_text = position, line_number + 1, False
        position += len(unfinished)
        has_text = has_text or not is_blank(unfinished)
    if has_text:
        _mark_line(marks, line_start, line_number)


def _mark_line(marks: _Marks, offset: int, line_number: int) -> None:
    if marks.due():
        marks.offsets.append(offset)
        marks.lines.append(line_number)
    marks.num_rows += 1


def _scan_json(uri: str, compression: Compression | None, chunks: Iterator[bytes], marks: _Marks) -> Kind:
    """Count the rows of a .json file and return its layout: an array, or one object a line."""
    head: list[bytes] = []
    for chunk in chunks:
        head.append(chunk)
        if not is_blank(chunk.removeprefix(BOM)):
            break
    if b"".join(head).removeprefix(BOM).lstrip().startswith(b"["):
        _scan_array(uri, b"".join(chain(head, chunks)), marks)
        return "json"
    _scan_lines(chain(head, chunks), marks)
    if marks.num_rows:
        first_line = next(iter_lines(read_chunks(uri, compression, start=marks.offsets[0])))
        first_row = parse_line(uri, marks.lines[0], first_line)
        # One object alone is more likely a container such as {"data": [...]} than a data set of one row.
        if first_row.reason or marks.num_rows == 1:
            raise InputError(
                f"{uri}: a .json file must hold one array of objects, or one object a line; this one starts "
                f"with {first_row.raw[:40]!r}. Wrap the objects in an array [...], or write one a line "
                "and call the file .jsonl."
            )
    return "jsonl"


def _scan_array(uri: str, content: bytes, marks: _Marks) -> None:
    """Count the elements of a JSON array and mark them by byte offset."""
    offset = len(BOM) if content.startswith(BOM) else 0
    previous = 0
    try:
        text = content[offset:].decode()
        last = text.index("[") + 1
        is_empty = text.startswith("]", skip_space(text, last))
        for start, end, _ in () if is_empty else iter_elements(text, last):
            last = end
            if marks.due():
                offset += len(text[previous:start].encode())
                previous = start
                marks.offsets.append(offset)
            marks.num_rows += 1
        rest = skip_space(text, skip_space(text, last) + 1)
        if rest != len(text):
            raise json.JSONDecodeError("Extra data after the array", text, rest)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{uri}: line {line}: not UTF-8: {error.reason}. Save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{uri}: not a readable JSON array: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except (RecursionError, ValueError) as error:
        element = f"element {marks.num_rows + 1}"
        raise InputError(f"{uri}: not a readable JSON array: {element}: {error}") from error
