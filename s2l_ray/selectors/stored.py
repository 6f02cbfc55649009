"""The pool's order, and columns that stay in the table they came in and are read from it when a selector asks."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.numerics.hashing import hash_strings
from s2l_ray.tables.chunked_table import ChunkedTable
from s2l_ray.tables.schemas import losses_matrix, one_array, texts

_CHUNK = 2**20

Result = TypeVar("Result")


class StoredTable:
    """A table's rows by their positions in the pool. Memory: 4 bytes a row, and the parts at work.

    The order is that of a 64-bit hash of example_id (its leading bits, as many as the row's number leaves), equal ones
    by the id itself.

    Raises
    ------
    InputError
        An id is missing, or there twice.
    """

    def __init__(self, parts: ChunkedTable) -> None:
        self.parts = parts
        kind = np.int32 if parts.num_rows < 2**31 else np.int64
        rows_N = _hash_order(parts)
        self._positions_N = np.empty(parts.num_rows, dtype=kind)  # of each row of the table
        for start in range(0, parts.num_rows, _CHUNK):
            own = rows_N[start : start + _CHUNK]
            self._positions_N[own] = np.arange(start, start + len(own), dtype=kind)

    def __len__(self) -> int:
        return self.parts.num_rows

    def each(self, columns: Sequence[str], work: Callable[[np.ndarray, pa.Table], Result]) -> Iterator[Result]:
        """Yield work(positions, part) for every part of the table, in the table's order."""
        return self.parts.each(columns, lambda rows, part: work(self._positions_N[rows], part))

    def take(self, columns: Sequence[str], positions: np.ndarray) -> pa.Table:
        """Return the columns at these positions, in their order; parts without any of them are not read."""
        is_wanted_N = np.zeros(len(self), dtype=bool)
        is_wanted_N[positions] = True
        is_wanted_N = is_wanted_N[self._positions_N]  # from here on by the table's rows
        table = _marked(self.parts, is_wanted_N).read(columns)
        found = self._positions_N[is_wanted_N]
        places = np.argsort(found)
        return table.take(pa.array(places[np.searchsorted(found, positions, sorter=places)]))

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a whole column in the pool's order."""
        rows_N = np.empty_like(self._positions_N)
        rows_N[self._positions_N] = np.arange(len(self), dtype=rows_N.dtype)
        return self.parts.read([name])[name].take(pa.array(rows_N))


class StoredIds:
    """The pool's ids, in its order."""

    def __init__(self, table: StoredTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def take(self, positions: pa.Array) -> pa.Array:
        """Return the ids at these positions."""
        return string_array(self._table.take(["example_id"], positions.to_numpy())["example_id"])

    def each(self) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """Yield (positions, ids) for every part of the table."""
        return self._table.each(["example_id"], lambda positions, part: (positions, string_array(part["example_id"])))


class StoredLosses:
    """The loss trajectories at the pool's positions, (N, C) float32: `numerics.rows.Rows`, and `[:, points]`."""

    def __init__(self, table: StoredTable) -> None:
        self._table = table
        first = losses_matrix(table.parts.readers[0](["example_id", "losses"]))
        self.shape = (len(table), first.shape[1])

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, key: np.ndarray | tuple[slice, int | list[int] | np.ndarray]) -> np.ndarray:
        """Return the rows at some positions, or all rows at some points ([:, points])."""
        if not isinstance(key, tuple):
            return losses_matrix(self._table.take(["example_id", "losses"], key))
        every, points = key
        assert every == slice(None)
        values = np.empty((len(self), *np.empty(self.shape[1])[points].shape), dtype=np.float32)

        def keep(positions: np.ndarray, rows_BC: np.ndarray) -> None:
            values[positions] = rows_BC[:, points]

        deque(self.each(keep), maxlen=0)
        return values

    def each(self, work: Callable[[np.ndarray, np.ndarray], Result]) -> Iterator[Result]:
        """Yield work(positions, losses) for every part of the table."""
        return self._table.each(["example_id", "losses"], lambda positions, part: work(positions, losses_matrix(part)))


def string_array(column: pa.ChunkedArray, name: str = "example_id") -> pa.Array:
    """Return a column of texts as one array; beyond 2 GiB of them as large_string."""
    kind = pa.string() if column.nbytes < 2**31 else pa.large_string()
    return one_array(texts(column, name).cast(kind))


def _hash_order(parts: ChunkedTable) -> np.ndarray:
    """Return the table's rows in the pool's order, (N,) int64.

    What is sorted are the hashes, with the row's number in place of their last bits: in place, where sorting numbers by
    their hashes takes ten times as long and twice the memory. Rows whose other bits agree are told apart by their ids.
    """
    keys_N = np.empty(parts.num_rows, dtype=np.uint64)
    row_bits = np.uint64(max(1, (parts.num_rows - 1).bit_length()))

    def fill(rows: slice, part: pa.Table) -> None:
        numbers = np.arange(rows.start, rows.stop, dtype=np.uint64)
        keys_N[rows] = (_hashes(part) >> row_bits << row_bits) | numbers

    deque(parts.each(["example_id"], fill), maxlen=0)
    keys_N.sort()
    ties = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(keys_N) - 1, _CHUNK):
        later = keys_N[start + 1 : start + 1 + _CHUNK]
        is_tie = (keys_N[start : start + len(later)] ^ later) >> row_bits == 0
        ties.append(np.flatnonzero(is_tie) + start)
    keys_N &= (np.uint64(1) << row_bits) - np.uint64(1)
    rows_N = keys_N.view(np.int64)
    _settle(parts, rows_N, np.concatenate(ties))
    return rows_N


def _hashes(part: pa.Table) -> np.ndarray:
    column = part["example_id"]
    if column.null_count:
        raise InputError(f"{column.null_count} rows have no example_id")
    chunks = texts(column, "example_id").chunks
    return np.concatenate([np.empty(0, dtype=np.uint64), *(hash_strings(chunk) for chunk in chunks)])


def _settle(parts: ChunkedTable, rows_N: np.ndarray, ties: np.ndarray) -> None:
    """Order the places that tie with the next one by id, in place; refuse an id that is there twice."""
    if len(ties) == 0:
        return
    places = np.union1d(ties, ties + 1)
    groups = np.cumsum(~np.isin(places - 1, ties))
    is_tied_N = np.zeros(len(rows_N), dtype=bool)
    is_tied_N[rows_N[places]] = True
    ids = string_array(_marked(parts, is_tied_N).read(["example_id"])["example_id"])
    rows = rows_N[places]
    ids = ids.take(pa.array(np.argsort(np.argsort(rows))))  # from the table's order to that of the places
    order = pc.sort_indices(pa.table([groups, ids], ["group", "id"]), [("group", "ascending"), ("id", "ascending")])
    ids = ids.take(order)
    is_repeated = pc.equal(ids[1:], ids[:-1])
    if pc.any(is_repeated).as_py():
        few = ids[1:].filter(is_repeated).unique()[:3].to_pylist()
        raise InputError(f"example_id repeats, for example {few}; ids must be unique")
    rows_N[places] = rows[order.to_numpy()]


def _marked(parts: ChunkedTable, is_kept_N: np.ndarray) -> ChunkedTable:
    return parts.only(np.split(is_kept_N, np.cumsum(parts.sizes)[:-1]))
