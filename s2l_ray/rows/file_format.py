"""What a file format is: how its rows are counted and read."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.rows.listing import Compression
from s2l_ray.rows.parsing import RawRow, bad_row, to_json
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.units import Unit


@dataclass
class Marks:
    """The rows counted so far, and where every `rows_per_mark`-th of them starts."""

    rows_per_mark: int
    num_rows: int = 0
    offsets: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def due(self) -> bool:
        """Tell whether the next row is to be marked."""
        return self.num_rows % self.rows_per_mark == 0


class FileFormat(ABC):
    """A way to keep rows in a file."""

    name: ClassVar[str]
    """As its module is called."""
    endings: ClassVar[tuple[str, ...]]
    is_compressible: ClassVar[bool] = True
    """Whether .gz, .zst and .bz2 may follow the ending."""

    @abstractmethod
    def scan(self, uri: str, compression: Compression | None, chunks: Iterator[bytes], marks: Marks) -> str:
        """Count and mark the rows of a file whose decompressed bytes come as chunks, all of which are to be taken.

        Returns the name of the format that reads it.

        Raises
        ------
        InputError
            The file as a whole cannot be read.
        """

    @abstractmethod
    def read(self, unit: Unit, wanted: np.ndarray) -> Iterator[RawRow]:
        """Yield the rows of a unit that are marked True, up to the last of them; a bad row is a row with a reason.

        Raises
        ------
        InputError
            The file has changed since it was scanned, or is corrupt.
        """


class TypedFormat(FileFormat):
    """A format whose columns have types; its rows are given back with them."""

    is_compressible = False

    @abstractmethod
    def num_rows(self, uri: str) -> int:
        """Return the number of rows that the file states."""

    @abstractmethod
    def schema(self, uri: str) -> pa.Schema:
        """Return the columns with their types."""

    @abstractmethod
    def batches(self, uri: str, first_row: int, num_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield `num_rows` rows from `first_row` (0-based) on, in batches."""

    def scan(self, uri: str, compression: Compression | None, chunks: Iterator[bytes], marks: Marks) -> str:
        """Count the rows; the bytes are taken for their hash alone."""
        num_bytes = sum(len(chunk) for chunk in chunks)
        marks.num_rows = self.num_rows(uri) if num_bytes else 0
        return self.name

    def read(self, unit: Unit, wanted: np.ndarray) -> Iterator[RawRow]:
        """Yield the rows as plain values."""
        position = 0
        for batch in self.batches(unit.uri, unit.first_row, len(wanted)):
            offsets = np.flatnonzero(wanted[position : position + batch.num_rows])
            rows = (unit.first_row + position + offsets + 1).tolist()
            position += batch.num_rows
            if rows:
                yield from _batch_rows(unit.name, rows, _in_microseconds(batch.take(pa.array(offsets))))


def changed(unit: Unit, what: str) -> InputError:
    """Return the error for a file that is not what was scanned."""
    rows = f"rows {unit.first_row + 1} to {unit.first_row + unit.num_rows}"
    return InputError(f"{unit.uri}: changed since it was scanned: {rows}: {what}")


def _batch_rows(file: str, rows: list[int], batch: pa.RecordBatch) -> Iterator[RawRow]:
    """Yield one raw row per row of the batch; `rows` are their 1-based positions in the file."""
    try:
        values = batch.to_pylist()
    except (ValueError, OverflowError):  # one bad value spoils the batch, so find its row
        for i, row in enumerate(rows):
            yield _single_row(file, row, batch.slice(i, 1))
        return
    for row, value in zip(rows, values, strict=True):
        yield RawRow(file, row, to_json(value), value)


def _single_row(file: str, row: int, batch: pa.RecordBatch) -> RawRow:
    try:
        value = batch.to_pylist()[0]
        return RawRow(file, row, to_json(value), value)
    except (ValueError, OverflowError) as error:
        reason = Reason.INVALID_UTF8 if isinstance(error, UnicodeDecodeError) else Reason.WRONG_TYPE
        readable = {name: _readable(batch.column(i)[0]) for i, name in enumerate(batch.schema.names)}
        return bad_row(file, row, to_json(readable), reason, str(error)[:200])


def _readable(scalar: pa.Scalar) -> Any:
    """Return the scalar's Python value, or what can be shown of one that has none."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        if isinstance(scalar, (pa.StringScalar, pa.LargeStringScalar)):
            return scalar.as_buffer().to_pybytes().decode(errors="replace")
        return f"<{scalar.type} that cannot be shown>"


def _in_microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Python's times have no nanoseconds; Arrow would need pandas to show them, or refuse."""
    kinds = [_coarser(kind) for kind in batch.schema.types]
    columns = [column.cast(kind, safe=False) for column, kind in zip(batch.columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _coarser(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    return pa.time64("us") if pa.types.is_time64(kind) and kind.unit == "ns" else kind
