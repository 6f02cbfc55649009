"""What somebody hands over in Python, as Arrow has it: tables of several libraries, arrays, columns."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.tables.chunked_table import ChunkedTable, check_columns, chunked_from_parquet, chunked_from_table
from s2l_ray.tables.schemas import without_views


def given_table(given: Any, what: str) -> ChunkedTable | None:
    """Return the table that is given, or None for what is none, such as an array.

    A table is the path of a Parquet file, an Arrow table, a data frame of pandas or polars, a `datasets.Dataset`, or
    anything else that hands its columns over by Arrow's C stream. Messages call it `what`.

    Raises
    ------
    InputError
        It cannot be read, or is of many tables.
    """
    if isinstance(given, (str, os.PathLike)):
        return chunked_from_parquet(Path(given).expanduser(), what)
    try:
        table = _as_arrow(given, what)
        if table is None:
            return None
        check_columns(table.schema, what)
        return chunked_from_table(table.cast(without_views(table.schema)))
    except (pa.ArrowException, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what}: this {type(given).__name__} is not readable as an Arrow table: {error}") from error


def _as_arrow(given: Any, what: str) -> pa.Table | None:
    library = type(given).__module__.partition(".")[0]
    if library == "datasets":  # by name: nothing is imported that the caller has not
        if not isinstance(getattr(given, "num_rows", None), int):
            raise InputError(f"{what}: a {type(given).__name__} is not one table in memory: give one split, "
                             "as a datasets.Dataset")
        return given.with_format("arrow")[:]  # in the order that the data set was put into
    if library == "pandas" and hasattr(given, "columns"):
        return pa.Table.from_pandas(given, preserve_index=False)
    if not hasattr(given, "__arrow_c_stream__") and not hasattr(given, "__arrow_c_array__"):
        return None
    has_columns = any(hasattr(given, name) for name in ("column_names", "columns", "schema"))
    return pa.table(given) if has_columns else None


def given_rows(given: Any, name: str) -> pa.FixedSizeListArray:
    """Return an array of shape (N, width) of numbers as a column of lists; a masked number is missing (NaN).

    Raises
    ------
    InputError
        It has another shape, or holds something else.
    """
    try:
        values: np.ndarray = np.ma.filled(given.astype(np.float64), np.nan) if np.ma.isMaskedArray(given) \
            else np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's are RuntimeErrors
        raise InputError(f"{name} of type {type(given).__name__} is no array of numbers of shape (N, width): {error}") \
            from error
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "iuf":
        raise InputError(f"{name} must be an array of numbers of shape (N, width), each at least 1, or a table; got "
                         f"shape {values.shape} of {values.dtype}")
    flat = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values.shape[1])


def given_column(given: Any, name: str) -> pa.ChunkedArray:
    """Return one value for each row, such as a list, an array or a data frame's column.

    Raises
    ------
    InputError
        It is not one column, or its values are not of one kind.
    """
    if isinstance(given, pa.ChunkedArray):
        return given
    if isinstance(given, pa.Array):
        return pa.chunked_array([given])
    try:
        return pa.chunked_array([pa.array(_one_dimensional(given, name), from_pandas=True)])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} holds values that are not of one kind: {error}") from error


def _one_dimensional(given: Any, name: str) -> Any:
    if isinstance(given, (str, bytes)) or not hasattr(given, "__len__"):
        raise InputError(f"{name} must hold one value for each row, got {type(given).__name__}")
    if not hasattr(given, "__array__"):
        return list(given)
    values = np.asarray(given)
    if values.ndim != 1:
        raise InputError(f"{name} must hold one value for each row, shape (N,); got shape {values.shape}")
    return values
