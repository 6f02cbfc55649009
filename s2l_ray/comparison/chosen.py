"""A selection as it is read to be compared with others."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from s2l_ray.errors import InputError
from s2l_ray.storage.files import resolve
from s2l_ray.tables.schemas import metadata_of, refuse_code, texts


@dataclass(frozen=True)
class Chosen:
    """One selection: its letter in the tables, where it lies, its ids, its scores (NaN for none) and its origin."""

    name: str
    path: str
    ids: pa.Array
    scores_B: np.ndarray
    origin: dict[str, Any]


def read_selection(path: str, name: str) -> Chosen:
    """Return the selection in a file, or in `selection.parquet` of a folder."""
    filesystem, place = resolve(path)
    if filesystem.get_file_info(place).type == pafs.FileType.Directory:
        place = f"{place.rstrip('/')}/selection.parquet"
    if filesystem.get_file_info(place).type != pafs.FileType.File:
        raise InputError(f"{path}: no selection there; give a selection.parquet, or a folder that holds one")
    try:
        with filesystem.open_input_file(place) as file:
            table = pq.ParquetFile(file).read()
        columns = table.column_names
    except (pa.ArrowException, OSError, UnicodeError) as error:  # of a column's name
        raise InputError(f"{path}: not a readable Parquet file: {error}") from error
    refuse_code(table.schema, path)
    ids = ids_of(table, path)
    scores_B = np.full(len(ids), np.nan)
    if "score" in columns:
        scores_B = numbers_of(table, "score", path)
    return Chosen(name, path, ids, scores_B, metadata_of(table.schema))


def ids_of(table: pa.Table, what: str) -> pa.Array:
    """Return the ids of a table that messages call `what`; InputError where one is missing or repeated."""
    if "example_id" not in table.column_names:
        raise InputError(f"{what}: needs a column example_id, it has {', '.join(table.column_names)}")
    ids = texts(table["example_id"], f"example_id of {what}").cast(pa.string()).combine_chunks()
    if len(ids) == 0 or ids.null_count or len(ids.unique()) != len(ids):
        raise InputError(f"{what}: needs at least one row, and an example_id of its own in each")
    return ids


def numbers_of(table: pa.Table, column: str, what: str) -> np.ndarray:
    """Return a column of numbers as float64, NaN where one is missing."""
    try:
        return table[column].cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{what}: column {column} must hold numbers, got {table[column].type}") from error
