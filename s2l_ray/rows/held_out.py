"""Held-out rows with what they would teach, one after another, as the gold answers of a task are read from them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.conversation import BadRow
from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.scanning import ROWS_PER_UNIT
from s2l_ray.rows.shape import to_conversation
from s2l_ray.rows.units import FileScan, plan_units


def held_out_rows(
    scans: Sequence[FileScan], shape: str, data: DataConfig
) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield (place, row, response) of all rows that can be read; the response is "" where the row gives none."""
    for unit in plan_units(scans, ROWS_PER_UNIT):
        for raw in read_unit(unit):
            if raw.value is not None:
                yield f"{raw.file} row {raw.row}", raw.value, response_of(raw.value, shape, data)


def response_of(row: Mapping[str, Any], shape: str, data: DataConfig) -> str:
    """Return the last answer of a row's conversation, "" where the row gives none: prepare says why."""
    try:
        return to_conversation(row, shape, data.columns, data.roles).turns[-1].content
    except BadRow:
        return ""
