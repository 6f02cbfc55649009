"""Small tables for checks of selectors: all that one may need, and the same with a bad value."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from s2l_ray.tables.chunked_table import ChunkedTable, Reader
from s2l_ray.tables.needs import PROBES, VECTORS, Need
from s2l_ray.tables.schemas import with_metadata

Values = Literal["drawn", "equal", "extreme"]
_EXTREMES = (0.0, 1e-30, 1.0, 800.0, 1e15)
"""Losses and scores that are finite, though what comes of them by exp, a square or a quotient need not be."""
_PART_ROWS = 8
_FRACTIONS = (0.0, 1 / 3, 2 / 3, 1.0)
_COLUMNS: Mapping[Need, str] = {
    Need.TRAJECTORIES: "losses", Need.SOURCES: "source", Need.LENGTHS: "num_supervised_tokens",
    Need.PASS_RATES: "pass_rate", **{need: f"loss_{need}" for need in PROBES},
}
"""Of the trajectories table."""


@dataclass(frozen=True)
class Tables:
    """All that a selector may need, of N examples in three sources."""

    trajectories: pa.Table
    """example_id, source, num_supervised_tokens, losses, and a column for each further loss."""
    embeddings: pa.Table
    scores: pa.Table
    tasks: pa.Table
    """task and embedding."""

    def __len__(self) -> int:
        return int(self.trajectories.num_rows)

    def shuffled(self, seed: int) -> "Tables":
        """Return the same rows, each table's in another order."""
        order = np.random.default_rng(seed).permutation(len(self))
        trajectories, embeddings, scores = (
            table.take(np.roll(order, turn))
            for turn, table in enumerate((self.trajectories, self.embeddings, self.scores)))
        return Tables(trajectories, embeddings, scores, self.tasks)

    def with_bad_value(self, need: Need, value: float | None) -> "Tables":
        """Return them with one value of what a selector needs missing, NaN or infinite."""
        beside = {**dict.fromkeys(VECTORS, "embeddings"), Need.SCORES: "scores"}.get(need)
        if beside is not None:
            table = getattr(self, beside)
            return replace(self, **{beside: _with_bad_value(table, table.column_names[-1], value)})
        return replace(self, trajectories=_with_bad_value(self.trajectories, _COLUMNS[need], value))


def make_tables(count: int, seed: int = 0, values: Values = "drawn") -> Tables:
    """Return tables of so many examples, whose values are drawn with the seed, or equal, or drawn from far apart."""
    rng = np.random.default_rng(seed)
    ids = [f"e{i:05d}" for i in range(count)]

    def draw(*shape: int) -> np.ndarray:
        if values == "extreme":
            return rng.choice(_EXTREMES, shape)
        return np.ones(shape) if values == "equal" else rng.random(shape) + 0.01

    trajectories = pa.table({
        "example_id": ids,
        "source": [f"s{i % 3}" for i in range(count)],
        "num_supervised_tokens": pa.array(np.minimum(draw(count) * 40, 2**31 - 2).astype(np.int32) + 1),
        "losses": _lists(draw(count, len(_FRACTIONS))),
        "pass_rate": np.minimum(np.floor(draw(count) * 5) / 4, 1),
        **{f"loss_{probe}": draw(count) * 5 for probe in PROBES},
    })
    points = {"points": [{"step": i, "fraction": fraction} for i, fraction in enumerate(_FRACTIONS)]}
    embeddings = pa.table({"example_id": ids, "embedding": _lists(draw(count, 5) + 0.01)})
    scores = pa.table({"example_id": ids, "score": draw(count)})
    tasks = pa.table({"task": ["a", "b", "a"], "embedding": _lists(draw(3, 5) + 0.01)})
    return Tables(with_metadata(trajectories, points), embeddings, scores, tasks)


def in_parts(table: pa.Table) -> ChunkedTable:
    """Return a table in parts that are read when a selector asks, as a large one is."""
    parts = [table.slice(start, _PART_ROWS) for start in range(0, table.num_rows, _PART_ROWS)]
    return ChunkedTable(table.schema, tuple(part.num_rows for part in parts), tuple(map(_reader, parts)))


def columns_of(needs: frozenset[Need]) -> list[str]:
    """Return the columns of the trajectories table that these are."""
    return [_COLUMNS[need] for need in sorted(needs & _COLUMNS.keys())]


def _reader(part: pa.Table) -> Reader:
    return lambda columns: part.select(list(columns))


def _lists(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32).reshape(-1)), rows.shape[1])


def _with_bad_value(table: pa.Table, column: str, value: float | None) -> pa.Table:
    """Return the table with this value in the middle of a column; of a list, as its last number."""
    values = table[column].to_pylist()
    middle = len(values) // 2
    values[middle] = [*values[middle][:-1], value] if isinstance(values[middle], list) else value
    kind = table.schema.field(column).type
    kind = pa.float64() if pa.types.is_integer(kind) else kind  # which holds NaN too
    return table.set_column(table.column_names.index(column), column, pa.array(values, kind))
