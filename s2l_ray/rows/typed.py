"""Rows with their own types, under one schema for all files that have any."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import FORMATS
from s2l_ray.rows.file_format import TypedFormat
from s2l_ray.rows.units import FileScan, Unit


def unify_schemas(scans: Sequence[FileScan]) -> pa.Schema | None:
    """Return one schema for all typed rows: the union of their columns, in order of first appearance; None without any.

    A column may be missing or all null in some files, and its types may differ where one holds all the other does:
    text and large text, integers and floats, structs with further fields. The schema's metadata is the first file's.

    Raises
    ------
    InputError
        Two files give a column types that have nothing in common, or one has two columns of one name.
    """
    typed = [(scan, form) for scan in scans if (form := typed_format(scan.format)) is not None]
    if not typed:
        return None
    unified = pa.schema([])
    owners: dict[str, FileScan] = {}
    for scan, form in typed:
        schema = form.schema(scan.uri)
        repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if repeated:
            names = ", ".join(map(repr, repeated))
            raise InputError(f"{scan.uri}: columns {names} are there more than once: rename one")
        for field in schema:
            _refuse_other_kind(field, unified, owners, scan)
            if field.type != pa.null():
                owners.setdefault(field.name, scan)
        metadata = unified.metadata if len(unified) else schema.metadata
        unified = pa.unify_schemas([unified, schema], promote_options="permissive").with_metadata(metadata)
    return unified


def _refuse_other_kind(field: pa.Field, unified: pa.Schema, owners: dict[str, FileScan], scan: FileScan) -> None:
    """Refuse a column whose type has nothing in common with the one that earlier files gave it."""
    index = unified.get_field_index(field.name)
    if index < 0:
        return
    known = unified.field(index)
    if pa.null() in (known.type, field.type):
        return
    here = f"{scan.uri}: column {field.name!r} is {field.type}, but {known.type} in {owners[field.name].uri}"
    try:
        pa.unify_schemas([pa.schema([known]), pa.schema([field])], promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(f"{here}: give it one type in all files") from error
    if _has_bytes(known.type) != _has_bytes(field.type):
        raise InputError(f"{here}: give it one type in all files")


def _has_bytes(kind: pa.DataType) -> bool:
    """Tell whether a type is of bytes or holds some: texts would become bytes among them."""
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return is_bytes or any(_has_bytes(kind.field(i).type) for i in range(kind.num_fields))


def typed_format(name: str) -> TypedFormat | None:
    """Return the format of this name if its rows have types, else None."""
    found = FORMATS.find(name)
    return found if isinstance(found, TypedFormat) else None


def typed_column(unit: Unit, schema: pa.Schema | None, keep: np.ndarray | None) -> pa.StructArray | None:
    """Return the original columns of a unit's rows, or of some at offsets `keep`; None where they have no types."""
    if schema is None or typed_format(unit.format) is None:
        return None
    table = read_unit_table(unit, schema)
    table = table if keep is None else table.take(pa.array(keep))
    return pa.StructArray.from_arrays([column.combine_chunks() for column in table.columns], fields=list(table.schema))


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
