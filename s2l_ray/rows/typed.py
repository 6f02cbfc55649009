"""Rows of Parquet files with their own types, under one schema for all files."""

from collections.abc import Sequence

import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.rows.parquet import iter_batches, parquet_schema
from s2l_ray.rows.scanning import FileScan
from s2l_ray.rows.units import Unit


def unify_parquet_schemas(scans: Sequence[FileScan]) -> pa.Schema:
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


def read_unit_table(unit: Unit, schema: pa.Schema) -> pa.Table:
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
