"""The rows of one unit; a bad row is a row with a reason, never an exception."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.rows.parquet import iter_batches
from s2l_ray.rows.parsing import RawRow, bad_row, iter_elements, parse_element, parse_line, to_json
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.streams import is_blank, iter_lines, read_chunks
from s2l_ray.rows.units import Unit


def read_unit(unit: Unit, keep: np.ndarray | None = None) -> Iterator[RawRow]:
    """Yield the unit's rows in order, or only those at the offsets `keep` (increasing, 0-based in the unit).

    Rows that are not kept are neither parsed nor checked, and nothing behind the last kept one is read.

    Raises
    ------
    InputError
        While iterating: the file has changed since it was scanned, or a row group or stream is corrupt.
    """
    wanted = _wanted(unit, keep)
    return _READERS[unit.kind](unit, wanted) if len(wanted) else iter(())


def _wanted(unit: Unit, keep: np.ndarray | None) -> np.ndarray:
    """Return a mask over the unit's rows, bool, up to the last wanted one."""
    if keep is None:
        return np.ones(unit.num_rows, dtype=bool)
    offsets = np.asarray(keep, dtype=np.int64)
    if len(offsets) == 0:
        return np.zeros(0, dtype=bool)
    if np.any(np.diff(offsets) <= 0) or offsets[0] < 0 or offsets[-1] >= unit.num_rows:
        raise ValueError(f"keep must increase strictly within 0..{unit.num_rows - 1}, got {offsets[:5]}...")
    wanted = np.zeros(offsets[-1] + 1, dtype=bool)
    wanted[offsets] = True
    return wanted


def _read_lines(unit: Unit, wanted: np.ndarray) -> Iterator[RawRow]:
    row, is_wanted = unit.seek_row - unit.first_row, wanted.tolist()
    chunks = read_chunks(unit.uri, unit.compression, start=unit.seek_offset)
    for line_number, line in enumerate(iter_lines(chunks), start=unit.seek_line):
        if is_blank(line):
            continue
        if row >= 0 and is_wanted[row]:
            yield parse_line(unit.name, line_number, line)
        row += 1
        if row == len(is_wanted):
            return
    raise _changed(unit, f"it ends after {unit.first_row + row} rows")


def _read_array(unit: Unit, wanted: np.ndarray) -> Iterator[RawRow]:
    row, is_wanted = unit.seek_row - unit.first_row, wanted.tolist()
    content = b"".join(read_chunks(unit.uri, unit.compression, start=unit.seek_offset, end=unit.end_offset))
    try:
        text = content.decode()
        for start, end, value in iter_elements(text, 0):
            if row >= 0 and is_wanted[row]:
                yield parse_element(unit.name, unit.first_row + row + 1, text[start:end], value)
            row += 1
            if row == len(is_wanted):
                return
    except (ValueError, RecursionError) as error:
        raise _changed(unit, str(error)) from error
    raise _changed(unit, f"it ends after {unit.first_row + row} rows")


def _read_parquet(unit: Unit, wanted: np.ndarray) -> Iterator[RawRow]:
    position = 0
    for batch in iter_batches(unit.uri, unit.first_row, len(wanted)):
        offsets = np.flatnonzero(wanted[position : position + batch.num_rows])
        rows = (unit.first_row + position + offsets + 1).tolist()
        position += batch.num_rows
        if rows:
            yield from _batch_rows(unit.name, rows, _in_microseconds(batch.take(pa.array(offsets))))


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


def _changed(unit: Unit, what: str) -> InputError:
    rows = f"rows {unit.first_row + 1} to {unit.first_row + unit.num_rows}"
    return InputError(f"{unit.uri}: changed since it was scanned: {rows}: {what}")


_READERS: dict[str, Callable[[Unit, np.ndarray], Iterator[RawRow]]] = {
    "jsonl": _read_lines,
    "json": _read_array,
    "parquet": _read_parquet,
}
