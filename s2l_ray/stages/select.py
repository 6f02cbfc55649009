"""select: choose examples of the pool, and give the chosen rows back as they came."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.artifacts import Artifact, file_digest
from s2l_ray.bring import DROPPED, Kind, open_trajectories_file, read_parquet
from s2l_ray.errors import InputError
from s2l_ray.parts import Parts, parquet_parts, shard_parts
from s2l_ray.rows.originals import json_lines, typed_table
from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors import find_selector
from s2l_ray.selectors.interface import needs_sources, pool_of, run_selector, selection_identity
from s2l_ray.storage import Storage
from s2l_ray.tables import PROBES, metadata_of


@dataclass(frozen=True)
class SelectInputs:
    """What a selection is made from; a selector reads only the tables that it requires."""

    examples: Artifact
    """The pool as the proxy sees it, with the rows as they came."""
    target_examples: Artifact
    """The pool as the target sees it."""
    trajectories: Artifact
    embeddings: Artifact
    probes: Mapping[str, Artifact]

    def required(self, config: SelectionConfig) -> dict[str, Artifact]:
        """Return the artifacts that decide this selection."""
        requires = find_selector(config.selector).requires
        always = {"examples": self.examples, "target_examples": self.target_examples}
        tables = {"trajectories": self.trajectories, "embeddings": self.embeddings, **self.probes}
        return {**always, **{name: artifact for name, artifact in tables.items() if name in requires}}


def select_artifact(config: SelectionConfig, seed: int, inputs: SelectInputs) -> Artifact:
    """Name a selection.

    Raises
    ------
    InputError
        The selector needs scores and `selection.scores` names no file.
    """
    identity = selection_identity(find_selector(config.selector), config, seed)
    if "scores" in find_selector(config.selector).requires:
        identity["scores"] = file_digest(_scores_file(config))
    parents = {name: artifact.fingerprint for name, artifact in inputs.required(config).items()}
    return Artifact(inputs.examples.storage, "select", identity, parents)


def _scores_file(config: SelectionConfig) -> Path:
    file = Path(config.scores or "").expanduser()
    if not file.is_file():
        raise InputError(f"selection.scores={config.scores!r} must name a Parquet file of example_id and score")
    return file


def run_select(artifact: Artifact, config: SelectionConfig, seed: int, inputs: SelectInputs) -> dict[str, Any]:
    """Write `selection.parquet`, and the chosen rows by rank as `subset.jsonl` and `subset.parquet`.

    An example that another model's tokenizer cannot use (its response lies beyond max_length there) is no candidate.
    """
    started, storage = time.time(), artifact.storage
    selector, required = find_selector(config.selector), inputs.required(config)
    if "trajectories" in required:
        table = shard_parts(storage, required["trajectories"].file("shards"))
    else:
        table = shard_parts(storage, inputs.examples.file("examples"))
    num_pool, expected = table.num_rows, inputs.examples.manifest()["rows"]["examples"]
    if num_pool != expected:
        folders = " and ".join(required[name].folder for name in ("examples", "trajectories") if name in required)
        raise RuntimeError(f"{num_pool} rows for {expected} examples: delete {folders} and run again")
    if inputs.target_examples.fingerprint != inputs.examples.fingerprint:
        table = _only(table, shard_parts(storage, inputs.target_examples.file("examples")).read(["example_id"]))
    embeddings = scores = None
    if "embeddings" in required:
        embeddings = shard_parts(storage, required["embeddings"].file("shards")).read()
        table = _only(table, embeddings)
    if "scores" in selector.requires:
        scores = read_parquet(_scores_file(config), "selection.scores")
    probes = {
        name: shard_parts(storage, probe.file("shards")).read() for name, probe in required.items() if name in PROBES
    }
    pool = pool_of(table, selector.requires, embeddings, scores, probes)
    selection, facts = run_selector(selector, pool, config, seed, dict(artifact.parents))
    storage.write_table(artifact.file("selection.parquet"), selection)
    _write_subset(artifact, inputs.examples, selection["example_id"])
    storage.write_json(artifact.file("findings.json"), facts)
    return artifact.publish(
        {
            "rows": {"pool": num_pool, "candidates": len(pool), "selected": selection.num_rows},
            "selection": metadata_of(selection.schema),
            "sources": _shares(table, selection),
        },
        started,
    )


def _only(table: Parts, usable: pa.Table) -> Parts:
    """Return the rows whose example is in the other table too."""
    ids = usable["example_id"].combine_chunks()
    return table.only([mask.to_numpy() for mask in table.each(["example_id"], lambda _, part: pc.is_in(
        part["example_id"], value_set=ids))])


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


def _shares(table: Parts, selection: pa.Table) -> dict[str, dict[str, int]]:
    """Return how many examples of each source are in the pool and in the selection, the largest source first."""
    ids = selection["example_id"].combine_chunks()
    pool: Counter = Counter()
    selected: Counter = Counter()
    for part in table.each(["example_id", "source"], lambda _, part: part):
        chosen = part.filter(pc.is_in(part["example_id"], value_set=ids))
        for counts, rows in ((pool, part), (selected, chosen)):
            counts.update({e["values"]: e["counts"] for e in pc.value_counts(rows["source"]).to_pylist()})
    return {source: {"pool": count, "selected": selected[source]} for source, count in pool.most_common()}


def select_from_file(
    file: Path, config: SelectionConfig, seed: int, output: Path, *, embeddings: Path | None = None,
    kind: Kind = "nats", drop_non_finite: bool = False,
) -> dict[str, Any]:
    """Select from anybody's trajectories table (see `bring` for its columns), without Ray or a model.

    Writes `selection.parquet`, `selection.jsonl`, `findings.json` and, for the rows left out, `quarantine.parquet`
    into `output`; returns the selection's origin with `num_dropped`. A selector that needs no trajectories takes any
    table with example_id, unless `kind` or `drop_non_finite` says something about its losses.

    Raises
    ------
    InputError
        A file is missing, no Parquet, or its columns do not serve; the budget does not fit.
    """
    selector = find_selector(config.selector)
    if "trajectories" in selector.requires or drop_non_finite or kind != "nats":
        table, dropped = open_trajectories_file(file, kind=kind, drop_non_finite=drop_non_finite)
    else:
        table, dropped = parquet_parts(file, "--trajectories"), DROPPED.empty_table()
    if not needs_sources(selector, config):  # reading and ordering them would cost as much as all else
        table = table.without(["source"])
    vectors = None if embeddings is None else read_parquet(embeddings, "--embeddings")
    scores = read_parquet(_scores_file(config), "selection.scores") if "scores" in selector.requires else None
    pool = pool_of(table, selector.requires, vectors, scores)
    selection, facts = run_selector(selector, pool, config, seed, {})
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output} cannot be made: {error}") from error
    storage = Storage(str(output.absolute()))
    storage.write_table("selection.parquet", selection)
    storage.write_table("quarantine.parquet", dropped)
    lines = (json.dumps(row) + "\n" for batch in selection.to_batches(2**16) for row in batch.to_pylist())
    storage.write_bytes("selection.jsonl", "".join(lines).encode())
    storage.write_json("findings.json", facts)
    return {**metadata_of(selection.schema), "num_dropped": dropped.num_rows}
