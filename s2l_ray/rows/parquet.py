"""Parquet schemas, batches and typed rows."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s2l_ray.errors import InputError
from s2l_ray.rows.streams import open_input

if TYPE_CHECKING:
    from s2l_ray.rows.scanning import FileScan
    from s2l_ray.rows.units import Unit

_BATCH_ROWS = 1024
_BUFFER_BYTES = 1 << 20


@contextlib.contextmanager
def _open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    with open_input(uri) as source:
        try:
            # Unbuffered, a reader would hold whole column chunks, which may be gigabytes.
            file = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{uri}: not a readable Parquet file: {error}") from error
        yield file


def num_parquet_rows(uri: str) -> int:
    """Return the number of rows that the file's footer states."""
    with _open_parquet(uri) as file:
        return int(file.metadata.num_rows)


def parquet_schema(uri: str) -> pa.Schema:
    """Return the schema of a Parquet file.

    Raises
    ------
    InputError
        The file is missing or not readable as Parquet.
    """
    with _open_parquet(uri) as file:
        return file.schema_arrow


def unify_parquet_schemas(scans: "Sequence[FileScan]") -> pa.Schema:
    """Return one schema for all rows: the union of the columns, in order of first appearance.

    A column may be missing or all null in some files. The schema's metadata is the first file's.

    Raises
    ------
    InputError
        A file is not Parquet, or two files give a column different types.
    """
    if not scans:
        raise InputError("no Parquet files to take a schema from")
    unified = pa.schema([])
    owners: dict[str, tuple[pa.DataType, str]] = {}
    for scan in scans:
        if scan.kind != "parquet":
            raise InputError(f"{scan.uri}: not a Parquet file; only Parquet rows have a schema")
        schema = parquet_schema(scan.uri)
        for field in schema:
            known, owner = owners.get(field.name, (pa.null(), ""))
            if pa.null() not in (known, field.type) and known != field.type:
                here = f"{scan.uri}: column {field.name!r} is {field.type}"
                raise InputError(f"{here}, but {known} in {owner}: give it one type in all files")
            if known == pa.null():
                owners[field.name] = field.type, scan.uri
        try:
            metadata = unified.metadata if len(unified) else schema.metadata
            unified = pa.unify_schemas([unified, schema], promote_options="default").with_metadata(metadata)
        except pa.ArrowException as error:
            raise InputError(f"{scan.uri}: its columns do not fit the other files': {error}") from error
    return unified


def iter_batches(uri: str, first_row: int, num_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield `num_rows` rows from `first_row` (0-based) on, in batches of at most 1,024 rows.

    Only the row groups that hold them are read, and of those nothing behind the last row.

    Raises
    ------
    InputError
        A row group is corrupt, or the file has become shorter.
    """
    stop = first_row + num_rows
    with _open_parquet(uri) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        ends = np.cumsum([0, *sizes])
        if stop > ends[-1]:
            raise InputError(
                f"{uri}: changed since it was scanned: {ends[-1]} rows instead of {stop} or more"
            )
        groups = [i for i in range(len(sizes)) if ends[i] < stop and ends[i + 1] > first_row]
        position = int(ends[groups[0]]) if groups else stop
        try:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups):
                start, end = max(first_row - position, 0), min(stop - position, batch.num_rows)
                position += batch.num_rows
                if start < end:
                    yield batch.slice(start, end - start)
                if position >= stop:
                    return
        except (pa.ArrowException, OSError) as error:
            where = f"rows {first_row + 1} to {stop} cannot be read"
            raise InputError(f"{uri}: {where}, the file is corrupt: {error}") from error


def read_unit_table(unit: "Unit", schema: pa.Schema) -> pa.Table:
    """Return the original typed rows of a Parquet unit, in `schema`; columns that its file lacks are null.

    Raises
    ------
    InputError
        The unit is not Parquet, a row group is corrupt, or the rows do not fit `schema`.
    """
    if unit.kind != "parquet":
        raise InputError(f"{unit.uri}: not a Parquet file, its rows have no types to give back")
    batches = list(iter_batches(unit.uri, unit.first_row, unit.num_rows))
    table = pa.Table.from_batches(batches, schema=None if batches else parquet_schema(unit.uri))
    unknown = [name for name in table.column_names if name not in schema.names]
    if unknown:
        raise InputError(f"{unit.uri}: columns {unknown} are not in the schema {schema.names}")
    try:
        for field in schema:
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return table.select(schema.names).cast(schema)
    except pa.ArrowException as error:
        raise InputError(f"{unit.uri}: its rows do not fit the schema: {error}") from error
