"""What the first rows of every file say: their shape, and what would go wrong with them."""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.conversation import BadRow
from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.shape import detect_shapes, to_conversation
from s2l_ray.rows.units import FileScan, plan_units

_MAX_ROWS = 2000  # of all files together, but at least 20 of each


def find_shape(scans: Sequence[FileScan], data: DataConfig) -> str:
    """Return the rows' shape from the first rows of every file.

    Raises
    ------
    InputError
        No shape fits, a column is not there, or none of a file's first rows fits.
    """
    filled = [scan for scan in scans if scan.num_rows] or scans[:1]
    with ThreadPoolExecutor() as threads:
        heads = list(threads.map(partial(_head, max_rows=max(20, _MAX_ROWS // len(filled))), filled))
    rows = [row for head in heads for row in head]
    names = list(dict.fromkeys(name for row in rows for name in row))
    shape = detect_shapes(rows, data.columns) if data.format == "auto" else data.format
    for column in filter(None, (data.id_column, data.source_column)):
        if column not in names:
            raise InputError(f"{filled[0].uri} has no column {column!r}; it has {', '.join(names)}")
    for scan, head in zip(filled, heads, strict=True):
        reasons = [bad for row in head if (bad := _why_bad(row, shape, data)) is not None]
        if len(reasons) == len(head) and all(bad.reason == Reason.MISSING_FIELD for bad in reasons):
            raise InputError(f"{scan.uri}: no row fits data.format={shape}: {reasons[0].detail}")
    return shape


def _head(scan: FileScan, max_rows: int) -> list[dict[str, Any]]:
    """Return the first rows of a file.

    Raises
    ------
    InputError
        None of them can be read; the first one's own reason is told.
    """
    unit = plan_units([scan], max(scan.num_rows, 1))[0]
    raws = list(itertools.islice(read_unit(unit), max_rows))
    rows = [raw.value for raw in raws if raw.value is not None]
    if not rows:
        why = f"row {raws[0].row}: {raws[0].reason}, {raws[0].detail}" if raws else "it gives none"
        raise InputError(f"{unit.uri}: none of its first {len(raws)} rows can be read; {why}. Is it a data file?")
    return rows


def _why_bad(row: Mapping[str, Any], shape: str, data: DataConfig) -> BadRow | None:
    try:
        to_conversation(row, shape, data.columns, data.roles)
    except BadRow as bad:
        return bad
    return None
