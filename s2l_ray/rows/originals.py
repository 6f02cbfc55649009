"""The rows as they came, kept beside the tokens: JSON text, or typed columns for rows from Parquet."""

import contextlib
import json
from typing import Any

import pyarrow as pa

from s2l_ray.rows.parsing import to_json


def values(table: pa.Table) -> list[dict[str, Any]]:
    """Return each row as the dict that its format is read from."""
    typed = table["typed"].to_pylist() if "typed" in table.column_names else [None] * table.num_rows
    return [json.loads(raw) if row is None else row for raw, row in zip(table["raw"].to_pylist(), typed, strict=True)]


def json_lines(table: pa.Table) -> list[str]:
    """Return each row as one line of JSON, as it came where it came as JSON."""
    typed = table["typed"].to_pylist() if "typed" in table.column_names else [None] * table.num_rows
    return [raw if row is None else to_json(row) for raw, row in zip(table["raw"].to_pylist(), typed, strict=True)]


def typed_table(table: pa.Table) -> pa.Table:
    """Return the rows as a table: with their original types if they came from Parquet, else with inferred ones.

    A column of JSON rows whose values share no type that Parquet can store is given as JSON text.
    """
    if "typed" in table.column_names and table["typed"].null_count == 0:
        struct = table["typed"].combine_chunks()
        return pa.table(struct.flatten(), names=[field.name for field in struct.type])
    rows = values(table)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(cells: list[Any]) -> pa.Array:
    with contextlib.suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        column = pa.array(cells)
        if not _has_empty_struct(column.type):
            return column
    return pa.array([None if cell is None else to_json(cell) for cell in cells])


def _has_empty_struct(kind: pa.DataType) -> bool:
    """Tell whether a type holds a struct without fields, which Parquet cannot store."""
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return (pa.types.is_struct(kind) and not inner) or any(map(_has_empty_struct, inner))
