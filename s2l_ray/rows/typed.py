"""Rows with their own types, under one schema for all files that have any."""

from collections.abc import Sequence

import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import FORMATS
from s2l_ray.rows.file_format import TypedFormat
from s2l_ray.rows.units import FileScan, Unit


def unify_schemas(scans: Sequence[FileScan]) -> pa.Schema | None:
    """Return one schema for all typed rows: the union of their columns, in order of first appearance; None without any.

    A column may be missing or all null in some files. The schema's metadata is the first file's.

    Raises
    ------
    InputError
        Two files give a column different types.
    """
    typed = [(scan, form) for scan in scans if (form := typed_format(scan.format)) is not None]
    if not typed:
        return None
    unified = pa.schema([])
    owners: dict[str, tuple[pa.DataType, str]] = {}
    for scan, form in typed:
        schema = form.schema(scan.uri)
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


def typed_format(name: str) -> TypedFormat | None:
    """Return the format of this name if its rows have types, else None."""
    found = FORMATS.find(name)
    return found if isinstance(found, TypedFormat) else None


def read_unit_table(unit: Unit, schema: pa.Schema) -> pa.Table:
    """Return the original typed rows of a unit, in `schema`; columns that its file lacks are null.

    Raises
    ------
    InputError
        A row group is corrupt, or the rows do not fit `schema`.
    """
    form = typed_format(unit.format)
    assert form is not None, f"{unit.uri}: its rows have no types to give back"
    batches = list(form.batches(unit.uri, unit.first_row, unit.num_rows))
    table = pa.Table.from_batches(batches, schema=None if batches else form.schema(unit.uri))
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
