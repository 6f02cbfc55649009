"""Rows of somebody's files by the ids of a table that was made of them elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.conversation import BadRow, digest
from s2l_ray.rows.first_rows import find_shape
from s2l_ray.rows.hub import scan_pool
from s2l_ray.rows.parsing import RawRow
from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.scanning import ROWS_PER_UNIT
from s2l_ray.rows.shape import to_conversation
from s2l_ray.rows.typed import typed_column, unify_schemas
from s2l_ray.rows.units import FileScan, Unit, plan_units
from s2l_ray.storage.files import Storage

_COLUMNS = ("example_id", "id")
_HASH = "the hash of the conversation"
IdOf = Callable[[RawRow], str | None]
Place = tuple[int, int]
"""The number of a unit, and an offset in it."""


def pick_rows(data: DataConfig, storage: Storage, ids: Sequence[str], id_column: str | None) -> pa.Table:
    """Return the rows that bear these ids, in the ids' order, as they came (`raw`, and `typed` of typed files).

    Parameters
    ----------
    id_column
        The column that holds the ids. None tries `example_id` and `id`, then what this package makes of a row that has
        no id: a hash of its conversation.

    Raises
    ------
    InputError
        An id is in no row, or in two rows that differ.
    """
    scans = scan_pool(storage, data)
    units, wanted = plan_units(scans, ROWS_PER_UNIT), set(ids)
    columns = _COLUMNS if id_column is None else (id_column,)
    found, twice = _find(units, wanted, {f"column {name}": _by_column(name) for name in columns})
    if id_column is None and all(len(places) < len(wanted) for places in found.values()):
        found |= _find(units, wanted, {_HASH: _by_conversation(scans, data)})[0]
    closest = max(found, key=lambda what: len(found[what]))
    if closest in twice:
        raise InputError(f"--rows: {twice[closest]}")
    left = [one for one in ids if one not in found[closest]]
    if left:
        raise InputError(
            f"--rows {data.path}: {len(left)} of the {len(ids)} chosen ids are in no row by {closest}, for example "
            f"{left[:3]}; tried: {', '.join(found)}. --id-column NAME says which column holds them")
    return _rows_at(units, [found[closest][one] for one in ids], unify_schemas(scans))


def _by_column(name: str) -> IdOf:
    def id_of(raw: RawRow) -> str | None:
        value: Any = (raw.value or {}).get(name)
        return None if value is None or isinstance(value, dict | list) else str(value)

    return id_of


def _by_conversation(scans: Sequence[FileScan], data: DataConfig) -> IdOf:
    shape = find_shape(scans, data)

    def id_of(raw: RawRow) -> str | None:
        try:
            return digest(to_conversation(raw.value or {}, shape, data.columns, data.roles))
        except BadRow:
            return None

    return id_of


def _find(
    units: Sequence[Unit], wanted: set[str], ways: Mapping[str, IdOf]
) -> tuple[dict[str, dict[str, Place]], dict[str, str]]:
    """Return for each way to read an id where the first row that bears each wanted id is; and what is wrong with it."""
    found: dict[str, dict[str, Place]] = {what: {} for what in ways}
    twice: dict[str, str] = {}
    rows: dict[tuple[str, str], RawRow] = {}
    for number, unit in enumerate(units):
        for offset, raw in enumerate(read_unit(unit)):
            for what, id_of in ways.items():
                one = id_of(raw)
                if one is None or one not in wanted:
                    continue
                first = rows.setdefault((what, one), raw)
                if raw.value != first.value and what != _HASH:
                    twice.setdefault(what, f"{what} has {one!r} in {first.file} row {first.row} and in {raw.file} row "
                                           f"{raw.row}, which differ: ids must be unique")
                found[what].setdefault(one, (number, offset))
    return found, twice


def _rows_at(units: Sequence[Unit], places: Sequence[Place], schema: pa.Schema | None) -> pa.Table:
    """Return the rows at these places, in this order."""
    by_unit: dict[int, list[int]] = {}
    for number, offset in sorted(set(places)):
        by_unit.setdefault(number, []).append(offset)
    tables = [_rows_of(units[number], np.array(offsets), schema) for number, offsets in by_unit.items()]
    order = {place: n for n, place in enumerate((number, offset) for number, own in by_unit.items() for offset in own)}
    return pa.concat_tables(tables, promote_options="default").take(pa.array([order[place] for place in places]))


def _rows_of(unit: Unit, offsets: np.ndarray, schema: pa.Schema | None) -> pa.Table:
    raws: Iterator[RawRow] = read_unit(unit, offsets)
    table = pa.table({"raw": pa.array([raw.raw for raw in raws], pa.string())})
    typed = typed_column(unit, schema, offsets)
    return table if typed is None else table.append_column("typed", typed)
