"""Put tokenised rows into shards."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.schemas import EXAMPLES, shard_name

_COPIED = ["source", "input_ids", "supervised", "num_tokens", "num_supervised_tokens"]


def part_file(number: int) -> str:
    """Return the file of a unit's tokenised rows."""
    return f"parts/part-{number:06d}.parquet"


class ShardWriter:
    """Gathers one shard's rows from the parts, sorts them by length and writes tokens and originals."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._held: dict[int, pa.Table] = {}  # of one part: the next shard often begins in the same part

    def run(self, shard: dict[str, Any]) -> Mapping[str, Any]:
        parts = [self._part(number).take(pa.array(rows)) for number, rows in shard["takes"]]
        table = pa.concat_tables(parts, promote_options="default").append_column("example_id", shard["ids"])
        # By length, so that a batch of neighbours wastes little padding; ids break ties.
        table = table.sort_by([("num_tokens", "ascending"), ("example_id", "ascending")])
        name = shard_name(shard["number"])
        originals = ["example_id", "file", "row", "raw", *(["typed"] if "typed" in table.column_names else [])]
        self._artifact.write_table(f"originals/{name}", table.select(originals))
        examples = table.select(["example_id", *_COPIED]).cast(EXAMPLES)
        self._artifact.write_table(f"examples/{name}", examples)
        totals = {name: int(np.sum(table[name].to_numpy())) for name in ("num_tokens", "num_supervised_tokens")}
        return {"num_examples": table.num_rows, "num_truncated": int(np.sum(table["truncated"].to_numpy())), **totals}

    def _part(self, number: int) -> pa.Table:
        if number not in self._held:
            self._held = {number: self._artifact.read_table(part_file(number))}
        return self._held[number]
