"""Which rows become examples: duplicates dropped, ids given, bad rows set aside; nothing else disappears."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.reasons import Reason

NARROW = ["file", "row", "reason", "detail", "key", "user_id", "unused", "way"]


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

    @property
    def num_examples(self) -> int:
        """Return the number of kept rows."""
        return len(self.ids)

    @property
    def num_quarantined(self) -> int:
        """Return the number of bad rows."""
        return self.quarantine.num_rows


def settle(tables: Sequence[pa.Table], data: DataConfig) -> Accounts:
    """Decide on every row of the part files, given their NARROW columns.

    The first of equal conversations stays (unless `data.drop_duplicates` is off). A user's id that an earlier,
    different row bears is quarantined as duplicate_id. Without an id column the id is the conversation's hash,
    with -2, -3, ... for its repetitions.
    """
    parts = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    rows = np.concatenate([np.arange(table.num_rows) for table in tables])
    table = pa.concat_tables(tables).combine_chunks()
    good = np.flatnonzero(table["reason"].is_null().to_numpy(zero_copy_only=False))
    occurrence = _occurrence(table["key"].take(good))
    kept = good[occurrence == 0] if data.drop_duplicates else good
    num_duplicates = len(good) - len(kept)
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
    )
    assert accounts.num_read == accounts.num_examples + num_duplicates + accounts.num_quarantined
    return accounts


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
