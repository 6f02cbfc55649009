"""A bounded sample of the pool's numbers: what the plots of a pool of any size are made from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.report.arms import Arm
from s2l_ray.report.study import Study
from s2l_ray.storage.files import Storage
from s2l_ray.tables.schemas import losses_matrix

MOST_ROWS = 200_000
_BLOCK_ROWS = 2**18
_EXAMPLE = ["example_id", "source", "num_tokens", "num_supervised_tokens"]


@dataclass(frozen=True)
class PoolSample:
    """M rows of the pool: a uniform draw of at most 200,000, and as many of the chosen rows."""

    storage: Storage
    examples: str
    """Fingerprint of the prepared pool."""
    num_rows: int
    """Rows of the whole pool."""
    ids: pa.Array
    sources_M: np.ndarray
    num_tokens_M: np.ndarray
    num_supervised_M: np.ndarray
    losses_MC: np.ndarray | None
    """Loss trajectories in nats, where the run has them."""
    fractions_C: np.ndarray | None
    """Training fraction of each point."""
    shards_M: np.ndarray
    """Number of the shard that holds each row, in the order of their names."""
    rows_M: np.ndarray
    """Its place there."""
    drawn_M: np.ndarray
    """Whether it is of the uniform draw, which stands for the pool."""
    chosen_M: np.ndarray
    """Whether the shown arm selected it."""
    random_M: np.ndarray
    """Whether the random arm beside it did; all False where there is none."""
    places_M: np.ndarray
    """Row of the selection table, -1 for rows that are not chosen."""
    selection: pa.Table

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_whole(self) -> bool:
        """Tell whether the draw is all of the pool."""
        return int(self.drawn_M.sum()) == self.num_rows


@dataclass(frozen=True)
class _Wanted:
    """Which rows are kept: positions in the pool, and places in the selection."""

    drawn: np.ndarray
    selected: pa.Array
    kept_B: np.ndarray
    random: pa.Array


def read_pool(study: Study, arm: Arm, random: Arm | None, rng: np.random.Generator) -> PoolSample:
    """Read the pool of an arm whose selection is finished, block by block, and keep the sample alone.

    Raises
    ------
    InputError
        The prepared pool is no longer in the storage.
    """
    manifest = study.manifest_of(arm, "select")
    assert manifest is not None, arm
    examples, storage = manifest["parents"]["examples"], arm.storage
    prepared = study.manifest(storage, "prepare", examples)
    if prepared is None:
        raise InputError(f"{storage.uri_of(f'prepare/{examples}')} is gone: run {arm.run!r} again, then report it")
    num_rows = int(prepared["rows"]["examples"])
    selection = storage.read_table(f"select/{arm.fingerprint('select')}/selection.parquet")
    kept_B = np.zeros(selection.num_rows, dtype=bool)
    kept_B[rng.permutation(selection.num_rows)[:MOST_ROWS]] = True
    wanted = _Wanted(np.sort(rng.permutation(num_rows)[:MOST_ROWS]), selection["example_id"].combine_chunks(), kept_B,
                     _ids_of(random))
    found = study.trajectories_of(arm, examples)
    trajectories = None if found is None else found["fingerprint"]
    per_block = max(1, _BLOCK_ROWS * int(prepared["num_shards"]) // max(num_rows, 1))
    table = pa.concat_tables(list(_blocks(storage, examples, trajectories, wanted, per_block)))

    def column(name: str) -> np.ndarray:
        return table[name].to_numpy()

    return PoolSample(
        storage, examples, num_rows, table["example_id"].combine_chunks(),
        np.array(table["source"].to_pylist(), dtype=object), column("num_tokens"), column("num_supervised_tokens"),
        losses_matrix(table) if found else None, fractions_of(found) if found else None, column("shard"), column("row"),
        column("drawn"), column("place") >= 0, column("random"), column("place"), selection,
    )


def _ids_of(arm: Arm | None) -> pa.Array:
    if arm is None:
        return pa.array([], pa.string())
    file = f"select/{arm.fingerprint('select')}/selection.parquet"
    return arm.storage.read_table(file, ["example_id"])["example_id"].combine_chunks()


def _blocks(
    storage: Storage, examples: str, trajectories: str | None, wanted: _Wanted, per_block: int
) -> Iterator[pa.Table]:
    """Yield the kept rows of every few shards; ids are looked up for a block at once, which a hash is built for."""
    names, start = storage.list_names(f"prepare/{examples}/examples"), 0
    for first in range(0, len(names), per_block):
        tables = []
        for shard, name in enumerate(names[first : first + per_block], start=first):
            table = storage.read_table(f"prepare/{examples}/examples/{name}", _EXAMPLE)
            table = table.append_column("shard", pa.array(np.full(table.num_rows, shard)))
            table = table.append_column("row", pa.array(np.arange(table.num_rows)))
            if trajectories is not None:
                table = table.append_column("losses", losses_of(storage, trajectories, name, table))
            tables.append(table)
        block = pa.concat_tables(tables)
        yield _kept(block, start, wanted)
        start += block.num_rows


def fractions_of(trajectories: Mapping[str, Any]) -> np.ndarray:
    """Return the training fraction of each point, by the trajectories' manifest, (C,)."""
    return np.array([point["fraction"] for point in trajectories["points"]])


def losses_of(storage: Storage, trajectories: str, shard: str, examples: pa.Table) -> pa.ChunkedArray:
    """Return the losses of a shard's examples at all points."""
    return beside(examples, storage, f"trajectories/{trajectories}/shards/{shard}", ["losses"])["losses"]


def beside(examples: pa.Table, storage: Storage, file: str, columns: list[str]) -> pa.Table:
    """Return columns of another table about the same examples, in the same order.

    Raises
    ------
    RuntimeError
        It is about others.
    """
    table = storage.read_table(file, ["example_id", *columns])
    if not table["example_id"].equals(examples["example_id"]):
        raise RuntimeError(f"{file} is about other rows than the pool's shard of the same name: delete its folder")
    return table


def _kept(block: pa.Table, start: int, wanted: _Wanted) -> pa.Table:
    num_rows = block.num_rows
    drawn = np.zeros(num_rows, dtype=bool)
    drawn[wanted.drawn[slice(*np.searchsorted(wanted.drawn, [start, start + num_rows]))] - start] = True
    places = pc.fill_null(pc.index_in(block["example_id"], value_set=wanted.selected), -1).to_numpy()
    random = pc.is_in(block["example_id"], value_set=wanted.random)
    block = block.append_column("drawn", pa.array(drawn)).append_column("place", pa.array(places.astype(np.int64)))
    block = block.append_column("random", random)
    is_kept = drawn.copy()
    is_kept[places >= 0] |= wanted.kept_B[places[places >= 0]]
    return block.filter(pa.array(is_kept))
