"""Finished targets in one file, small enough to be kept with the code: what another machine goes on from."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s2l_ray.tables.schemas import metadata_of, with_metadata
from tests.evidence.cells import Place, cells_of

_DIGITS = 4  # of a loss in nats: what is beyond is noise, and would not be packed
_KEPT = pa.schema([("name", pa.string()), ("facts", pa.string()), ("losses", pa.list_(pa.float32())),
                   ("right", pa.list_(pa.float32())), ("rows", pa.list_(pa.int32()))])
_ARRAYS = {"losses": ".npy", "right": "-right.npy", "rows": "-rows.npy"}


def write_kept(place: Place, file: Path) -> int:
    """Write the finished targets, their losses by row in nats and what they were trained on; return how many."""
    found = []
    for cell in cells_of(place.setting):
        if cell.kind == "target" and place.is_done(cell):
            arrays = {name: place.file(cell, ending) for name, ending in _ARRAYS.items()}
            values = {name: np.load(at) for name, at in arrays.items() if at.exists()}
            if "losses" in values:
                values["losses"] = np.round(values["losses"], _DIGITS)
            found.append({"name": cell.name, "facts": json.dumps(place.facts(cell), sort_keys=True), **values})
    table = with_metadata(pa.Table.from_pylist(found, schema=_KEPT), {"setting": place.setting.name()})
    pq.write_table(table, file, compression="zstd", compression_level=19)
    return table.num_rows


def take_kept(place: Place, file: Path) -> int:
    """Put finished targets where cells of the setting are looked for, and return how many were not there yet.

    Raises
    ------
    ValueError
        The file is of another setting.
    """
    table = pq.read_table(file)
    of = metadata_of(table.schema)["setting"]
    if of != place.setting.name():
        raise ValueError(f"{file} holds cells of {of}, not of {place.setting.name()}: give the file of this --size")
    kept = {row["name"]: row for row in table.to_pylist()}
    missing = [cell for cell in cells_of(place.setting) if cell.name in kept and not place.is_done(cell)]
    for cell in missing:
        row = kept[cell.name]
        for name, ending in _ARRAYS.items():
            if row[name] is not None:
                np.save(place.file(cell, ending), np.array(row[name], table.schema.field(name).type.value_type.to_pandas_dtype()))
        place.file(cell).write_text(row["facts"] + "\n")
    return len(missing)
