"""The rows of one unit; a bad row is a row with a reason, never an exception."""

from collections.abc import Iterator

import numpy as np

from s2l_ray.recipe.registry import FORMATS
from s2l_ray.rows.parsing import RawRow
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
    return FORMATS.find(unit.format).read(unit, wanted) if len(wanted) else iter(())


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
