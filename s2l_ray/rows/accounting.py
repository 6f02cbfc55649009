"""Which rows become examples: duplicates and twins dropped, ids given, bad rows set aside; nothing else disappears."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.marks import LEAK, SIGNATURE
from s2l_ray.rows.near_duplicates import find_twins, num_parts
from s2l_ray.rows.reasons import Reason
from s2l_ray.tables.schemas import LEAKS, NEAR_DUPLICATES

NARROW = ["file", "row", "reason", "detail", "key", "user_id", "unused", "way"]
"""The columns of the part files that `settle` needs in any case, beside `marks.mark_columns`."""


@dataclass(frozen=True)
class Accounts:
    """The fate of every row read. The N kept rows are in input order."""

    num_read: int
    num_duplicates: int
    quarantine: pa.Table
    ids: pa.Array
    """example_id of each kept row, (N,) strings, all different."""
    parts_N: np.ndarray
    """Part file that holds each kept row."""
    rows_N: np.ndarray
    """Its row in that part."""
    not_used: dict[str, int]
    """What no model sees of the good rows -> in how many of them it holds anything, the most frequent first."""
    ways: dict[str, int]
    """How what is learned of a chat was found -> number of good rows."""
    leaks: pa.Table | None = None
    """Each row that holds text of a held-out one, and that one; None where none were looked for."""
    near_duplicates: pa.Table | None = None
    """Each row that is nearly an earlier one, and that one; None where none were looked for."""

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of rows read, and of each fate that was asked for; the fates add up to it."""
        compared = {"leaks": self.leaks, "near_duplicates": self.near_duplicates}
        left_out = {name: table.num_rows for name, table in compared.items() if table is not None}
        return {"read": self.num_read, "examples": self.num_examples, "duplicates": self.num_duplicates, **left_out,
                "quarantined": self.num_quarantined}

    @property
    def num_examples(self) -> int:
        """Return the number of kept rows."""
        return len(self.ids)

    @property
    def num_quarantined(self) -> int:
        """Return the number of bad rows."""
        return self.quarantine.num_rows


def settle(tables: Sequence[pa.Table], data: DataConfig) -> Accounts:
    """Decide on every row of the part files, given their NARROW columns and marks.

    The first of equal conversations stays (unless `data.drop_duplicates` is off). Of these, what is marked as a leak is
    left out, and then, with `data.near_duplicates`, all but the first of those that are nearly equal. A user's id that
    an earlier, different row bears is quarantined as duplicate_id. Without an id column the id is the conversation's
    hash, with -2, -3, ... for its repetitions.
    """
    parts = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    rows = np.concatenate([np.arange(table.num_rows) for table in tables])
    table = pa.concat_tables([part.select(NARROW) for part in tables]).combine_chunks()
    good = np.flatnonzero(table["reason"].is_null().to_numpy(zero_copy_only=False))
    occurrence = _occurrence(table["key"].take(good))
    kept = good[occurrence == 0] if data.drop_duplicates else good
    num_duplicates = len(good) - len(kept)
    kept, leaks = _without_leaks(tables, table, kept)
    kept, near_duplicates = _without_twins(tables, table, kept, data)
    if data.id_column is None:
        ids = _numbered(table["key"].take(kept), occurrence[np.isin(good, kept)])
        repeated = np.empty(0, dtype=np.int64)
    else:
        is_repeated = _occurrence(table["user_id"].take(kept)) > 0
        repeated, kept = kept[is_repeated], kept[~is_repeated]
        ids = table["user_id"].take(kept).combine_chunks()
    accounts = Accounts(
        table.num_rows, num_duplicates, _quarantine(table, repeated), ids, parts[kept], rows[kept],
        _frequencies(pc.list_flatten(table["unused"])), _frequencies(table["way"].drop_null()),
        leaks, near_duplicates,
    )
    num_read, *fates = accounts.counts.values()
    assert num_read == sum(fates), accounts.counts
    return accounts


def _without_leaks(
    tables: Sequence[pa.Table], table: pa.Table, kept: np.ndarray
) -> tuple[np.ndarray, pa.Table | None]:
    """Return the rows that stay of those kept so far, and what is recorded of the others."""
    if LEAK not in tables[0].column_names:
        return kept, None
    marks = pa.chunked_array([chunk for part in tables for chunk in part[LEAK].chunks], tables[0][LEAK].type)
    leaked = kept[marks.take(kept).is_valid().to_numpy()]
    found = marks.take(leaked).combine_chunks()
    places = [table[name].take(pa.array(leaked)) for name in ("file", "row")]
    return np.setdiff1d(kept, leaked), pa.table([*places, *found.flatten()], schema=LEAKS)


def _without_twins(
    tables: Sequence[pa.Table], table: pa.Table, kept: np.ndarray, data: DataConfig
) -> tuple[np.ndarray, pa.Table | None]:
    """Return the rows that stay of those kept so far, and what is recorded of the others."""
    config = data.near_duplicates
    if config is None:
        return kept, None
    # Not of `table`: its columns are copies, and these are the widest.
    column = pa.chunked_array([chunk for part in tables for chunk in part[SIGNATURE].chunks], tables[0][SIGNATURE].type)
    column = column.take(kept)
    signed, bytes_NH = kept[column.is_valid().to_numpy()], _matrix(column.drop_null().combine_chunks())
    twins = find_twins(bytes_NH, config.threshold, num_parts(config.compare))
    dropped, first = signed[twins.rows_M], signed[twins.kept_M]
    places = [table[name].take(pa.array(rows)) for rows in (dropped, first) for name in ("file", "row")]
    return np.setdiff1d(kept, dropped), pa.table([*places, pa.array(twins.similarities_M)], schema=NEAR_DUPLICATES)


def _matrix(column: pa.Array) -> np.ndarray:
    """Return fixed-size binary without nulls as its bytes, (N, H) uint8."""
    width = column.type.byte_width
    whole = np.frombuffer(column.buffers()[1] or b"", dtype=np.uint8)
    return whole[column.offset * width : (column.offset + len(column)) * width].reshape(-1, width)


def _frequencies(values: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value occurs, the most frequent first."""
    counts = {str(entry["values"]): int(entry["counts"]) for entry in pc.value_counts(values).to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _occurrence(values: pa.ChunkedArray) -> np.ndarray:
    """Return how many equal values come before each one, (N,) int64."""
    codes = pc.dictionary_encode(values).combine_chunks().indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    group_start = np.repeat(starts, np.diff(np.append(starts, len(codes))))
    occurrence = np.empty(len(codes), dtype=np.int64)
    occurrence[order] = np.arange(len(codes)) - group_start
    return occurrence


def _numbered(keys: pa.ChunkedArray, occurrence: np.ndarray) -> pa.Array:
    suffixes = pa.array(["" if n == 0 else f"-{n + 1}" for n in occurrence.tolist()], pa.string())
    return pc.binary_join_element_wise(keys.combine_chunks(), suffixes, "")


def _quarantine(table: pa.Table, repeated: np.ndarray) -> pa.Table:
    bad = table.filter(pc.is_valid(table["reason"])).select(["file", "row", "reason", "detail"])
    if not len(repeated):
        return bad
    rows = table.take(pa.array(repeated))
    details = [f"id {value!r} is borne by an earlier, different row" for value in rows["user_id"].to_pylist()]
    reasons = pa.array([str(Reason.DUPLICATE_ID)] * len(details))
    twice = pa.table([rows["file"], rows["row"], reasons, pa.array(details)], names=bad.column_names)
    return pa.concat_tables([bad, twice])
