"""CSV and TSV: a header, then one row a record; a field in quotes may hold separators and line breaks."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.rows.file_format import FileFormat, Marks, changed
from s2l_ray.rows.listing import Compression
from s2l_ray.rows.parsing import RawRow, bad_row, to_json
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.streams import BOM, MAX_LINE_BYTES, iter_lines, read_chunks
from s2l_ray.rows.units import Unit

_SEPARATORS = ",;\t|"
_MAX_LINES = 10_000  # of one record: a quote that is never closed would take the rest of the file


@dataclass(frozen=True, slots=True)
class _Record:
    """One record: where it starts, its bytes, and its fields, or why it has none."""

    offset: int
    line: int
    raw: bytes
    fields: list[str] | None
    problem: str = ""


class Csv(FileFormat):
    """Rows are the records behind the header; all values are texts. The header says what parts the fields."""

    name = "csv"
    endings = (".csv", ".tsv")

    def scan(self, uri: str, compression: Compression | None, chunks: Iterator[bytes], marks: Marks) -> str:
        """Count the records. Holds one of them."""
        records = _records(uri, chunks)
        header = next(records, None)
        if header is not None:
            _columns(header, uri)
        for record in records:
            if marks.due():
                marks.offsets.append(record.offset)
                marks.lines.append(record.line)
            marks.num_rows += 1
        return self.name

    def read(self, unit: Unit, wanted: np.ndarray) -> Iterator[RawRow]:
        """Yield a row for each record."""
        header = next(_records(unit.uri, read_chunks(unit.uri, unit.compression)), None)
        if header is None:
            raise changed(unit, "it is empty")
        columns, separator = _columns(header, unit.uri), _separator(header.raw)
        chunks = read_chunks(unit.uri, unit.compression, start=unit.seek_offset)
        row, is_wanted = unit.seek_row - unit.first_row, wanted.tolist()
        for record in _records(unit.uri, chunks, separator, unit.seek_line):
            if row >= 0 and is_wanted[row]:
                yield _row(unit.name, record, columns)
            row += 1
            if row == len(is_wanted):
                return
        raise changed(unit, f"it ends after {unit.first_row + row} rows")


def _records(uri: str, chunks: Iterable[bytes], separator: str = "", line: int = 1) -> Iterator[_Record]:
    """Yield the records of a file, or of what is left of it; blank lines hold none.

    A record that no quote closes in time is one of its first line alone, with a problem; the next line begins another.

    Raises
    ------
    InputError
        A line is so long that this is no CSV file.
    """
    lines, offset, waiting = iter_lines(chunks), 0, list[bytes]()
    while True:
        taken: list[bytes] = []
        source = chain(waiting, lines)
        first = next(source, None)
        if first is None:
            return
        taken.append(first)
        if len(first) > MAX_LINE_BYTES:
            raise InputError(f"{uri}: line {line} is longer than {MAX_LINE_BYTES:,} bytes: is this a CSV file?")
        if offset == 0 and line == 1 and first.startswith(BOM):
            offset, first = len(BOM), first.removeprefix(BOM)
            taken[0] = first
        separator = separator or _separator(first)
        is_empty = not first.strip() and separator.encode() not in first
        fields, problem = ([], "") if is_empty else _parse(first, source, taken, separator)
        used = taken[:1] if problem else taken
        # What was read ahead and not used is read again, before what is left of the file.
        waiting = [*taken[len(used):], *(waiting[len(taken):])]
        raw = b"\n".join(used)
        if fields or problem:
            yield _Record(offset, line, raw, fields if not problem else None, problem)
        offset, line = offset + len(raw) + 1, line + len(used)


def _parse(first: bytes, source: Iterator[bytes], taken: list[bytes], separator: str) -> tuple[list[str], str]:
    """Return a record's fields, or a problem; its lines are added to `taken` as they are needed."""
    size = len(first)

    def texts() -> Iterator[str]:
        nonlocal size
        yield _text(first)
        for line in source:
            taken.append(line)
            size += len(line)
            if len(taken) > _MAX_LINES or size > MAX_LINE_BYTES:
                return
            yield _text(line)

    csv.field_size_limit(2 * MAX_LINE_BYTES)
    try:
        return next(csv.reader(texts(), delimiter=separator, strict=True)), ""
    except (csv.Error, StopIteration) as error:
        return [], f"quotes do not pair: {error}"


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="surrogateescape") + "\n"


def _separator(header: bytes) -> str:
    """Return the most frequent of the separators in the header's line; a comma where there is none."""
    text = header.decode(errors="replace")
    return max(_SEPARATORS, key=lambda mark: (text.count(mark), -_SEPARATORS.index(mark)))


def _columns(header: _Record, uri: str) -> list[str]:
    """Return the names of the columns.

    Raises
    ------
    InputError
        The first line cannot be read, or names a column twice or not at all.
    """
    names = [name.strip() for name in header.fields or ()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if header.problem or repeated or "" in names:
        unnamed = f"gives column {names.index('') + 1} no name" if "" in names else ""
        what = header.problem or unnamed or f"names {', '.join(map(repr, repeated))} more than once"
        raise InputError(f"{uri}: the header, line {header.line}: {what}. The first line must name each column once")
    return names


def _row(file: str, record: _Record, columns: list[str]) -> RawRow:
    text = record.raw.decode(errors="replace")
    if record.fields is None:
        return bad_row(file, record.line, text, Reason.NOT_CSV, record.problem)
    if len(record.fields) != len(columns):
        detail = f"{len(record.fields)} fields, the header has {len(columns)}: a quote or a separator too many?"
        return bad_row(file, record.line, text, Reason.NOT_CSV, detail)
    value = dict(zip(columns, record.fields, strict=True))
    try:
        "".join(record.fields).encode()
    except UnicodeEncodeError:
        return bad_row(file, record.line, text, Reason.INVALID_UTF8, "a byte of the record is no UTF-8")
    return RawRow(file, record.line, to_json(value), value)


FORMAT = Csv()
