"""What is in a file of rows, as far as the recipe depends on it, and any row of it by its number."""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.parts import parse_data
from s2l_ray.rows.conversation import BadRow, Conversation
from s2l_ray.rows.first_rows import find_shape
from s2l_ray.rows.hub import scan_pool
from s2l_ray.rows.parsing import RawRow
from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.scanning import ROWS_PER_UNIT
from s2l_ray.rows.shape import to_conversation
from s2l_ray.rows.typed import unify_schemas
from s2l_ray.rows.units import FileScan, Unit, plan_units
from s2l_ray.storage.files import Storage


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

    def sample(self, num_rows: int) -> Iterator[RawRow]:
        """Yield so many rows, or a few less, spread evenly over the files' units; all where there are no more."""
        units = plan_units(self.scans, ROWS_PER_UNIT)
        each, step = ROWS_PER_UNIT, 1
        if num_rows < self.num_rows:
            each = max(1, num_rows // len(units))
            step = -(-len(units) * each // num_rows)
        for unit in units[::step]:
            yield from itertools.islice(read_unit(unit), each)

    def conversations(self, num_rows: int) -> Iterator[tuple[RawRow, Conversation]]:
        """Yield the rows of a sample of so many with their conversations; bad rows are passed over."""
        for row in self.sample(num_rows):
            if row.value is not None:
                try:
                    yield row, to_conversation(row.value, self.shape, self.data.columns, self.data.roles)
                except BadRow:
                    continue  # prepare says why, row by row

    def spread(self, num_rows: int) -> list[RawRow]:
        """Return so many rows, evenly spread from the first to the last."""
        places = np.unique(np.linspace(0, self.num_rows - 1, min(num_rows, self.num_rows)).round().astype(np.int64))
        units = plan_units(self.scans, ROWS_PER_UNIT)
        starts = np.cumsum([0, *(unit.num_rows for unit in units)])
        cuts = np.searchsorted(places, starts)
        kept = [(unit, places[cuts[i] : cuts[i + 1]] - starts[i]) for i, unit in enumerate(units)]
        return [row for unit, keep in kept if len(keep) for row in read_unit(unit, keep)]

    def row(self, asked: str) -> RawRow:
        """Return the row that is asked for as reasons name it: `N`, or `FILE:N` where there are several files.

        Raises
        ------
        InputError
            There is no such file, or no such row in it.
        """
        name, _, number = asked.rpartition(":")
        if not (number.isascii() and number.isdigit()) or int(number) < 1:
            raise InputError(f"--row {asked}: rows are numbered from 1: N, or FILE:N where there are several files")
        scans = [scan for scan in self.scans if not name or name == scan.name]
        if len(scans) != 1:
            known = ", ".join(scan.name for scan in self.scans[:8]) + (", ..." if len(self.scans) > 8 else "")
            raise InputError(f"--row {asked}: say of which file, as in --row {self.scans[0].name}:1; there are {known}")
        return _row(scans[0], int(number))

    @property
    def numbering(self) -> str:
        """Return how rows are numbered, in words."""
        by_line = {bool(scan.lines) for scan in self.scans}
        what = {True: "a row's number is that of its line", False: "a row's number is its place in the file"}
        return f"{' or '.join(what[each] for each in sorted(by_line))}, counted from 1, as in reasons"


def _row(scan: FileScan, number: int) -> RawRow:
    """Return the row of a file that bears a number.

    Raises
    ------
    InputError
        There is none.
    """
    found = next((row for row in read_unit(_unit_with(scan, number)) if row.row == number), None)
    if found is not None:
        return found
    last = _last_line(scan) if scan.lines else scan.num_rows
    where = f"{scan.name} has {scan.num_rows:,} rows" + (f", the last one in line {last:,}" if scan.lines else "")
    begins = ": no row begins there, it is blank, a header or the inside of a record" if number < last else ""
    raise InputError(f"--row {number}{begins}: {where}")


def _unit_with(scan: FileScan, number: int) -> Unit:
    units = plan_units([scan], scan.rows_per_mark)
    if scan.lines:
        return units[max(0, bisect.bisect_right(scan.lines, number) - 1)]
    return units[min(len(units), -(-number // scan.rows_per_mark)) - 1]


def _last_line(scan: FileScan) -> int:
    *_, last = read_unit(plan_units([scan], scan.rows_per_mark)[-1])
    return last.row


def look_at(path: str, overrides: Sequence[str] = ()) -> Look:
    """Read the files that a path means, as the overrides of `data` say; InputError as `look_into`."""
    return look_into(parse_data(path, overrides), "")


def look_into(data: DataConfig, storage: str) -> Look:
    """Read the files of a recipe's pool; a data set of the hub is fetched to the storage first.

    Raises
    ------
    InputError
        There are none, they are empty or damaged, their columns' types do not fit, or no shape fits their rows.
    """
    scans = scan_pool(Storage(storage), data)
    unify_schemas(scans)
    if not any(scan.num_rows for scan in scans):
        raise InputError(f"{data.path or data.hub_name}: there are no rows")
    return Look(data, scans, find_shape(scans, data))
