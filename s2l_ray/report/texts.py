"""The texts of the few rows that a report shows."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.report.figures import cut
from s2l_ray.report.pool import PoolSample
from s2l_ray.rows.chat_messages import Reading
from s2l_ray.rows.conversation import BadRow


def read_texts(
    sample: PoolSample, wanted: Sequence[int], prepared: Mapping[str, Any], length: int
) -> dict[int, tuple[str, str]]:
    """Return (prompt, response) of these rows of the sample, each cut to `length` characters.

    One shard of originals is in memory at a time.

    Parameters
    ----------
    prepared
        The pool's manifest: it says which format the rows are in.
    """
    storage, folder = sample.storage, f"prepare/{sample.examples}/originals"
    names = storage.list_names(folder)
    indices = np.unique(np.array(list(wanted), dtype=np.int64))
    texts = {}
    for shard in np.unique(sample.shards_M[indices]):
        own = indices[sample.shards_M[indices] == shard]
        table = storage.read_table(f"{folder}/{names[shard]}", ["example_id", "raw"])
        table = table.take(pa.array(sample.rows_M[own]))
        if not table["example_id"].combine_chunks().equals(sample.ids.take(pa.array(own))):
            raise RuntimeError(f"{folder}/{names[shard]} is about other rows than its examples: delete its folder")
        for index, raw in zip(own.tolist(), table["raw"].to_pylist(), strict=True):
            prompt, response = _conversation(raw, prepared)
            texts[index] = cut(prompt, length), cut(response, length)
    return texts


def _conversation(raw: str, prepared: Mapping[str, Any]) -> tuple[str, str]:
    """Return what is asked and what is answered last; with several turns each one's role before it."""
    try:
        turns = Reading.recorded(prepared).conversation(json.loads(raw)).turns
    except (BadRow, ValueError):
        return raw, ""  # its text was read with other settings once: shown as it came
    before = [f"{turn.content}\n{turn.context}".strip() for turn in turns[:-1]]
    if len(before) > 1:
        before = [f"{turn.role}: {text}" for turn, text in zip(turns, before, strict=False)]
    return "\n".join(before), turns[-1].content
