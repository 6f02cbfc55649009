"""Scanned files, cut into units of rows, the work of one task."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.rows.listing import Compression


@dataclass(frozen=True, slots=True)
class FileScan:
    """What one pass over a file found out. `offsets` and `lines` hold one entry per `rows_per_mark` rows."""

    uri: str
    name: str
    """What reports call the file."""
    format: str
    """Name of the file format that reads it: a .json file of one object a line is jsonl."""
    compression: Compression | None
    num_rows: int
    num_bytes: int
    """Stored bytes, compressed where the file is."""
    sha256: str
    """Hex digest of the stored bytes."""
    rows_per_mark: int
    offsets: tuple[int, ...] = ()
    """Where in the decompressed bytes the rows 0, rows_per_mark, ... start; () for typed formats."""
    lines: tuple[int, ...] = ()
    """The 1-based line numbers of those rows; () where rows are no lines."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Consecutive rows of one file, and where to seek for them. Small, since one crosses Ray per task."""

    file_index: int
    """Position of the file in the scans that were planned."""
    uri: str
    name: str
    format: str
    """Name of the file format."""
    compression: Compression | None
    first_row: int
    """0-based, among the rows of the file."""
    num_rows: int
    seek_row: int = 0
    """The row that starts at `seek_offset`; at most `first_row`."""
    seek_offset: int = 0
    """In decompressed bytes."""
    seek_line: int = 1
    """1-based line number at `seek_offset`."""
    end_offset: int | None = None
    """An offset at or behind the unit's end; None is the end of the file."""


def plan_units(scans: Sequence[FileScan], rows_per_unit: int) -> list[Unit]:
    """Return units of `rows_per_unit` rows (a file's last may be shorter), in order of files and rows.

    Any `rows_per_unit` works; multiples of the scan's own need no skipping.

    Raises
    ------
    InputError
        The files hold no rows at all.
    """
    if rows_per_unit < 1:
        raise ValueError(f"rows_per_unit={rows_per_unit} must be at least 1")
    units = [
        _unit(index, scan, first_row, min(rows_per_unit, scan.num_rows - first_row))
        for index, scan in enumerate(scans)
        for first_row in range(0, scan.num_rows, rows_per_unit)
    ]
    if not units:
        raise InputError(f"the {len(scans)} files hold no rows: {', '.join(scan.uri for scan in scans[:5])}")
    return units


def sample_units(
    scans: Sequence[FileScan], rows_per_unit: int, limit: int | None, seed: int
) -> list[tuple[Unit, np.ndarray | None]]:
    """Return the units that hold a sample of so many rows, with the offsets to keep; all of them without a limit.

    The sample is drawn evenly over all rows and is the same whatever the units; InputError as `plan_units`.
    """
    units = plan_units(scans, rows_per_unit)
    total = sum(unit.num_rows for unit in units)
    if limit is None or limit >= total:
        return [(unit, None) for unit in units]
    chosen = np.sort(np.random.default_rng(seed).choice(total, limit, replace=False))
    starts = np.cumsum([0, *(unit.num_rows for unit in units)])
    cuts = np.searchsorted(chosen, starts)
    kept = [(unit, chosen[cuts[i] : cuts[i + 1]] - starts[i]) for i, unit in enumerate(units)]
    return [(unit, keep) for unit, keep in kept if len(keep)]


def _unit(file_index: int, scan: FileScan, first_row: int, num_rows: int) -> Unit:
    unit = (file_index, scan.uri, scan.name, scan.format, scan.compression, first_row, num_rows)
    if not scan.offsets:
        return Unit(*unit)
    mark = first_row // scan.rows_per_mark
    mark_behind = -(-(first_row + num_rows) // scan.rows_per_mark)
    return Unit(
        *unit,
        seek_row=mark * scan.rows_per_mark,
        seek_offset=scan.offsets[mark],
        seek_line=scan.lines[mark] if scan.lines else 1,
        end_offset=scan.offsets[mark_behind] if mark_behind < len(scan.offsets) else None,
    )
