"""Examples that a selection must hold, and those that it must not: `selection.required` and `selection.forbidden`."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.tables.losses_file import read_parquet
from s2l_ray.tables.schemas import texts

NAMED = ("required", "forbidden")


@dataclass(frozen=True)
class Named:
    """Positions in a pool, ascending, of the examples that were named."""

    required: np.ndarray
    forbidden: np.ndarray

    def free(self, num_candidates: int) -> np.ndarray:
        """Return the positions of all others, ascending."""
        return np.setdiff1d(np.arange(num_candidates), np.concatenate([self.required, self.forbidden]))


def named_in(pool: Pool, config: SelectionConfig) -> Named:
    """Find the examples that were named in a pool.

    Raises
    ------
    InputError
        A required one is not there, none of the forbidden ones is, or one is both.
    """
    required, forbidden = (_ids_of(config, name) for name in NAMED)
    both = required.filter(pc.is_in(required, value_set=forbidden))
    if len(both):
        raise InputError(f"{len(both)} examples are named by selection.required and by selection.forbidden, for "
                         f"example {both[:3].to_pylist()}: take them out of one")
    places = Named(*(np.sort(found[found >= 0]) for found in map(pool.places_of, (required, forbidden))))
    if len(places.required) < len(required):
        there = pool.example_ids.take(pa.array(places.required))
        missing = required.filter(pc.invert(pc.is_in(required, value_set=there.cast(required.type))))
        raise InputError(f"selection.required: {len(missing)} of {len(required)} are no examples of the pool, for "
                         f"example {missing[:3].to_pylist()}; an id is the example_id of `selection.parquet`")
    if len(forbidden) and not len(places.forbidden):
        raise InputError(f"selection.forbidden: none of its {len(forbidden)} ids is an example of the pool, for "
                         f"example {forbidden[:3].to_pylist()}; an id is the example_id of `selection.parquet`")
    return places


def named_identity(config: SelectionConfig, name: str) -> dict[str, Any]:
    """Return what stands for the named ids in a fingerprint: the same ids are the same, wherever they are written."""
    ids = _ids_of(config, name)
    return {"ids": len(ids), "sha256": hashlib.sha256(json.dumps(ids.to_pylist()).encode()).hexdigest()}


def _ids_of(config: SelectionConfig, name: str) -> pa.Array:
    """Return the ids that `selection.<name>` gives, sorted, each once."""
    given: list[str] | str | None = getattr(config, name)
    if given is None:
        return pa.array([], pa.large_string())
    ids = _read(Path(given).expanduser(), f"selection.{name}") if isinstance(given, str) else given
    if len(ids) == 0:
        raise InputError(f"selection.{name}={given!r} names no example: give ids, or null for none")
    unique = pa.array(ids, pa.large_string()).unique().drop_null()
    return unique.take(pc.sort_indices(unique))


def _read(file: Path, what: str) -> list[str]:
    """Return the ids of a file: the column example_id of Parquet or JSON Lines, or one in each line of text."""
    if file.suffix == ".parquet":
        table = read_parquet(file, what)
        if "example_id" not in table.column_names:
            raise InputError(f"{what} {file}: it needs a column example_id, it has {table.column_names}")
        return texts(table["example_id"], "example_id").to_pylist()
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeError) as error:
        raise InputError(f"{what} {file}: not readable ({error}); give a Parquet file with example_id, or a text file "
                         "with one id in a line") from error
    if file.suffix != ".jsonl":
        return lines
    return [_id_in(line, f"{what} {file} line {number}") for number, line in enumerate(lines, 1)]


def _id_in(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("example_id"), str):
        raise InputError(f"{where}: it needs a text example_id, as in selection.jsonl")
    return row["example_id"]
