"""select: choose examples of the pool, and give the chosen rows back as they came."""

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2l_ray.artifacts import Artifact
from s2l_ray.config import SelectionConfig
from s2l_ray.errors import InputError
from s2l_ray.rows.originals import json_lines, typed_table
from s2l_ray.selectors import find_selector
from s2l_ray.selectors.interface import Pool, pool_of, run_selector, selection_identity
from s2l_ray.storage import Storage
from s2l_ray.tables import metadata_of, with_metadata


def select_artifact(
    config: SelectionConfig, seed: int, examples: Artifact, target_examples: Artifact, trajectories: Artifact
) -> Artifact:
    """Name a selection. Only the tables that the selector requires are its parents."""
    selector = find_selector(config.selector)
    parents = {"examples": examples.fingerprint, "target_examples": target_examples.fingerprint}
    if "trajectories" in selector.requires:
        parents["trajectories"] = trajectories.fingerprint
    return Artifact(examples.storage, "select", selection_identity(selector, config, seed), parents)


def run_select(
    artifact: Artifact, config: SelectionConfig, seed: int, examples: Artifact, target_examples: Artifact,
    trajectories: Artifact,
) -> dict[str, Any]:
    """Write `selection.parquet`, and the chosen rows by rank as `subset.jsonl` and `subset.parquet`.

    An example that the target's tokenizer cannot use (its response lies beyond max_length there) is no candidate.
    """
    started, storage = time.time(), artifact.storage
    selector = find_selector(config.selector)
    if "trajectories" in selector.requires:
        table = _read_shards(storage, trajectories.file("shards"))
    else:
        table = _read_shards(storage, examples.file("examples"), ["example_id", "source"])
    num_pool = table.num_rows
    if target_examples.fingerprint != examples.fingerprint:
        usable = _read_shards(storage, target_examples.file("examples"), ["example_id"])["example_id"]
        table = table.filter(pc.is_in(table["example_id"], value_set=usable.combine_chunks()))
    pool = pool_of(table, selector.requires)
    selection, facts = run_selector(selector, pool, config, seed, dict(artifact.parents))
    storage.write_table(artifact.file("selection.parquet"), selection)
    _write_subset(artifact, examples, selection["example_id"])
    storage.write_json(artifact.file("findings.json"), facts)
    return artifact.publish(
        {
            "rows": {"pool": num_pool, "candidates": len(pool), "selected": selection.num_rows},
            "selection": metadata_of(selection.schema),
            "sources": _shares(pool, selection),
        },
        started,
    )


def _read_shards(storage: Storage, folder: str, columns: list[str] | None = None) -> pa.Table:
    tables = [storage.read_table(f"{folder}/{name}", columns) for name in storage.list_names(folder)]
    whole = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    return with_metadata(whole, metadata_of(tables[0].schema))


def _write_subset(artifact: Artifact, examples: Artifact, ids: pa.ChunkedArray) -> None:
    """Write the chosen rows in rank order, unchanged."""
    storage, wanted = artifact.storage, ids.combine_chunks()
    found = []
    for name in storage.list_names(examples.file("originals")):
        table = storage.read_table(examples.file(f"originals/{name}"))
        found.append(table.filter(pc.is_in(table["example_id"], value_set=wanted)))
    rows = pa.concat_tables(found, promote_options="default")
    rows = rows.take(pc.index_in(wanted, value_set=rows["example_id"].combine_chunks()))
    storage.write_bytes(artifact.file("subset.jsonl"), "".join(f"{line}\n" for line in json_lines(rows)).encode())
    storage.write_table(artifact.file("subset.parquet"), typed_table(rows))


def _shares(pool: Pool, selection: pa.Table) -> dict[str, dict[str, int]]:
    """Return how many examples of each source are in the pool and in the selection."""
    if pool.sources is None:
        return {}
    chosen = pool.sources.take(pc.index_in(selection["example_id"].combine_chunks(), value_set=pool.example_ids))
    counts = {e["values"]: e["counts"] for e in pc.value_counts(chosen).to_pylist()}
    whole = sorted(pc.value_counts(pool.sources).to_pylist(), key=lambda entry: -entry["counts"])
    return {e["values"]: {"pool": e["counts"], "selected": counts.get(e["values"], 0)} for e in whole}


def select_from_file(file: Path, config: SelectionConfig, seed: int, output: Path) -> dict[str, Any]:
    """Select from anybody's trajectories table (Parquet with example_id and losses), without Ray or a model.

    Writes `selection.parquet`, `selection.jsonl` and `findings.json` into `output`; returns the selection's origin.

    Raises
    ------
    InputError
        The file is missing, no Parquet, or its columns do not serve; the budget does not fit.
    """
    selector = find_selector(config.selector)
    if not file.is_file():
        raise InputError(f"--trajectories {file}: no such file")
    try:
        table = pq.ParquetFile(file).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"--trajectories {file}: not a readable Parquet file: {error}") from error
    selection, facts = run_selector(selector, pool_of(table, selector.requires), config, seed, {})
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output} cannot be made: {error}") from error
    storage = Storage(str(output.absolute()))
    storage.write_table("selection.parquet", selection)
    lines = "".join(json.dumps(row) + "\n" for row in selection.to_pylist())
    storage.write_bytes("selection.jsonl", lines.encode())
    storage.write_json("findings.json", facts)
    return metadata_of(selection.schema)
