"""A table in parts that are read when they are needed: it may be larger than memory."""

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s2l_ray.errors import InputError
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage
from s2l_ray.tables.schemas import refuse_code, without_views

_AT_ONCE = 2  # parts in memory: while one is read, another is worked on
_PART_ROWS = 2**18  # row groups are joined up to this, so that small ones cost no more
_HELD_BYTES = 2**30

Item = TypeVar("Item")
Result = TypeVar("Result")
Reader = Callable[[Sequence[str]], pa.Table]


@dataclass(frozen=True)
class ChunkedTable:
    """A table whose rows come part by part, in an order that stays; each read names the columns that it wants."""

    schema: pa.Schema
    sizes: tuple[int, ...]
    """Rows of each part, at least one."""
    readers: tuple[Reader, ...]

    def __post_init__(self) -> None:
        assert all(self.sizes) and len(self.sizes) == len(self.readers), self.sizes

    @property
    def num_rows(self) -> int:
        """Return the rows of all parts."""
        return sum(self.sizes)

    def each(self, columns: Sequence[str], work: Callable[[slice, pa.Table], Result]) -> Iterator[Result]:
        """Yield work(rows, part) for every part in order, `rows` being its place in the table."""
        ends = list(itertools.accumulate(self.sizes, initial=0))
        places = map(slice, ends, ends[1:])
        return in_order(lambda item: work(item[0], item[1](columns)), zip(places, self.readers, strict=True))

    def only(self, kept: Sequence[np.ndarray]) -> "ChunkedTable":
        """Return the rows that are marked True, given one mask for each part; parts without any are left out."""
        chosen = [(read, mask) for read, mask in zip(self.readers, kept, strict=True) if mask.any()]
        readers = (read if mask.all() else partial(_filtered, read, pa.array(mask)) for read, mask in chosen)
        return ChunkedTable(self.schema, tuple(int(mask.sum()) for _, mask in chosen), tuple(readers))

    def held(self) -> "ChunkedTable":
        """Return the same table, which keeps what it has read, if it is not more than 1 GiB."""
        shelf = _Shelf()
        return replace(self, readers=tuple(partial(shelf.read, *item) for item in enumerate(self.readers)))

    def without(self, columns: Sequence[str]) -> "ChunkedTable":
        """Return the table without these columns."""
        left = [field for field in self.schema if field.name not in columns]
        return replace(self, schema=pa.schema(left, self.schema.metadata))

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows at once."""
        names = self.schema.names if columns is None else columns
        empty = pa.schema([self.schema.field(name) for name in names]).empty_table()
        tables = [empty, *self.each(names, lambda _, part: part.replace_schema_metadata())]
        return pa.concat_tables(tables).replace_schema_metadata(self.schema.metadata)


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield work(item) in the order of the items, two at work at a time (Arrow and numpy let go of Python's lock)."""
    waiting: deque = deque()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for item in items:
            waiting.append(threads.submit(work, item))
            if len(waiting) > _AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def chunked_from_table(table: pa.Table) -> ChunkedTable:
    """Return a table in memory as one part."""
    if table.num_rows == 0:
        return ChunkedTable(table.schema, (), ())
    return ChunkedTable(table.schema, (table.num_rows,), (lambda columns: table.select(list(columns)),))


def check_columns(schema: pa.Schema, what: str) -> None:
    """Refuse a user's table with values that code would make, or two columns of one name."""
    refuse_code(schema, what)
    repeated = [name for name, count in Counter(schema.names).items() if count > 1]
    if repeated:
        raise InputError(f"{what}: columns appear twice: {', '.join(repeated)}")


def chunked_from_shards(artifact: Artifact, folder: str) -> ChunkedTable:
    """Return the Parquet files in one of an artifact's folders as the parts of one table, by name."""
    storage, paths = artifact.storage, [artifact.file(f"{folder}/{name}") for name in artifact.list_names(folder)]
    assert paths, f"{artifact.folder}/{folder} has no shards"
    footers = list(in_order(storage.read_footer, paths))
    filled = [(rows, partial(_read_shard, storage, path))
              for path, (_, rows) in zip(paths, footers, strict=True) if rows]
    return ChunkedTable(footers[0][0], tuple(rows for rows, _ in filled), tuple(read for _, read in filled)).held()


def chunked_from_parquet(file: Path, what: str) -> ChunkedTable:
    """Return the row groups of a user's Parquet file, small ones joined; InputError where it is missing or none."""
    if not file.is_file():
        raise InputError(f"{what} {file}: no such file")
    try:
        with pq.ParquetFile(file) as opened:
            metadata, schema = opened.metadata, without_views(opened.schema_arrow)
            _ = schema.names  # which may be no texts in a damaged footer
    except (pa.ArrowException, OSError, UnicodeError) as error:  # of a column's name
        raise _unreadable(file, what, error) from error
    check_columns(schema, f"{what} {file}")
    groups: list[list[int]] = []
    sizes: list[int] = []
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if rows == 0:
            continue
        if sizes and sizes[-1] + rows <= _PART_ROWS:
            groups[-1].append(group)
            sizes[-1] += rows
        else:
            groups.append([group])
            sizes.append(rows)
    readers = tuple(partial(_read_groups, file, what, metadata, joined) for joined in groups)
    return ChunkedTable(schema, tuple(sizes), readers).held()


def _read_groups(
    file: Path, what: str, metadata: pq.FileMetaData, groups: list[int], columns: Sequence[str]
) -> pa.Table:
    try:
        with pq.ParquetFile(file, metadata=metadata) as opened:  # one for each read: readers are not for many threads
            table = opened.read_row_groups(groups, columns=list(columns), use_threads=False)
            num_rows = sum(metadata.row_group(group).num_rows for group in groups)
            if columns and table.num_rows != num_rows:  # a damaged page header: Arrow returns what it finds
                raise pa.ArrowInvalid(f"{table.num_rows} rows where its footer says {num_rows}")
            return table.cast(without_views(table.schema))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, what, error) from error


def _unreadable(file: Path, what: str, error: Exception) -> InputError:
    return InputError(f"{what} {file}: not a readable Parquet file: {error}")


def _read_shard(storage: Storage, path: str, columns: Sequence[str]) -> pa.Table:
    return storage.read_table(path, list(columns))


class _Shelf:
    """The columns that were read of a table's parts, or nothing more once they exceed the room."""

    def __init__(self) -> None:
        self._columns: dict[tuple[int, str], pa.ChunkedArray] = {}
        self._free, self._lock = _HELD_BYTES, Lock()

    def read(self, part: int, read: Reader, columns: Sequence[str]) -> pa.Table:
        """Read a part's columns, those on the shelf from there."""
        held = self._columns
        missing = [name for name in columns if (part, name) not in held]
        fresh = dict(zip(missing, read(missing).columns, strict=True)) if missing else {}
        found = {name: fresh[name] if name in fresh else held[part, name] for name in columns}
        if fresh:
            with self._lock:
                self._free -= sum(column.nbytes for column in fresh.values())
                kept = {(part, name): column for name, column in fresh.items()}
                self._columns = {**self._columns, **kept} if self._free >= 0 else {}
        return pa.table(found)


def _filtered(read: Reader, mask: pa.Array, columns: Sequence[str]) -> pa.Table:
    return read(columns).filter(mask)
