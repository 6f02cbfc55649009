"""What is in a file of rows, as far as the recipe depends on it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.parts import parse_data
from s2l_ray.rows.conversation import BadRow, Conversation
from s2l_ray.rows.first_rows import find_shape
from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.scanning import ROWS_PER_UNIT, scan_all
from s2l_ray.rows.shape import to_conversation
from s2l_ray.rows.units import FileScan, plan_units


@dataclass(frozen=True)
class Look:
    """What was found: the files, the shape of their rows, and how many there are."""

    data: DataConfig
    scans: tuple[FileScan, ...]
    shape: str

    @property
    def num_rows(self) -> int:
        """Return the number of rows of all files."""
        return sum(scan.num_rows for scan in self.scans)

    def conversations(self, num_rows: int) -> Iterator[Conversation]:
        """Yield the conversations of so many rows, spread evenly over the files' units; bad rows are passed over."""
        units = plan_units(self.scans, ROWS_PER_UNIT)
        each = max(1, num_rows // len(units))
        step = max(1, len(units) * each // max(1, num_rows))
        for unit in units[::step]:
            for row in itertools.islice(read_unit(unit), each):
                if row.value is not None:
                    try:
                        yield to_conversation(row.value, self.shape, self.data.columns, self.data.roles)
                    except BadRow:
                        continue  # prepare says why, row by row


def look_at(path: str, overrides: Sequence[str] = ()) -> Look:
    """Read the files that a path means, as the overrides of `data` say.

    Raises
    ------
    InputError
        There are none, they are empty or damaged, or no shape fits their rows.
    """
    data = parse_data(path, overrides)
    scans = scan_all(path, data.split)
    if not any(scan.num_rows for scan in scans):
        raise InputError(f"{path}: there are no rows")
    return Look(data, scans, find_shape(scans, data))
