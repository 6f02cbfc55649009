"""select: choose examples of the pool, and give the chosen rows back as they came."""

import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.rows.originals import json_lines, typed_table
from s2l_ray.rows.picked import pick_rows
from s2l_ray.selectors.bare import select_from_table
from s2l_ray.selectors.early import early_agreement
from s2l_ray.selectors.grown import Earlier, kept_positions
from s2l_ray.selectors.per import quotas_of
from s2l_ray.selectors.run import composed, pool_of, run_selector, selection_identity
from s2l_ray.stages.planning import FOR_TARGET, Planning, Step, of_wanted
from s2l_ray.stages.table import STAGES, stage_of
from s2l_ray.stages.work import Sizes, Work
from s2l_ray.storage.artifacts import Artifact, file_digest, is_finished, read_manifest
from s2l_ray.storage.files import Storage
from s2l_ray.tables.chunked_table import ChunkedTable, chunked_from_parquet, chunked_from_shards
from s2l_ray.tables.losses_file import Kind, read_parquet, read_trajectories_file
from s2l_ray.tables.needs import PROBES, VECTORS, Need
from s2l_ray.tables.schemas import metadata_of

_TARGET = "target_examples"


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of a selection, named by the selector's own settings and the tables that it reads.

    Raises
    ------
    InputError
        The selector needs scores and `selection.scores` names no file, or examples of tasks and none are named.
    """
    assert of is not None
    config, seed = planning.arms[of], planning.recipe.selection_seed
    selector = SELECTORS.find(of)
    made = {table for stage in STAGES for table in stage.gives}
    inputs = {"examples": planning.artifact("examples"), _TARGET: planning.artifact("examples", FOR_TARGET)}
    inputs |= {str(need): planning.artifact(need) for need in sorted(selector.needs & made)}
    if Need.REPRESENTATIONS in selector.needs:
        if not config.task_examples:
            raise InputError(f"selector {of} needs solved examples of each task wanted: name them in selection."
                             "task_examples, for example [{name: gsm8k, path: solved.jsonl}]")
        wanted = [of_wanted(task.name) for task in config.task_examples]
        inputs |= {name: planning.artifact(Need.REPRESENTATIONS, name) for name in wanted}
    identity = selection_identity(selector, config, seed)
    if Need.SCORES in selector.needs:
        identity["scores"] = file_digest(_scores_file(config))
    parents = {name: artifact.fingerprint for name, artifact in inputs.items()}
    artifact = Artifact(planning.storage, "select", identity, parents)
    return Step(stage_of("select"), artifact, partial(run_select, artifact, config, seed, inputs), of)


def check_composition(config: SelectionConfig, examples: Artifact) -> None:
    """Refuse named examples and shares of sources that a prepared pool has not, before anything is trained for it.

    Raises
    ------
    InputError
        See `composed` and `quotas_of`.
    """
    if config.required or config.forbidden or config.shares or config.extends:
        pool = pool_of(chunked_from_shards(examples, "examples"), frozenset({Need.SOURCES} if config.shares else ()))
        selector = SELECTORS.find(config.selector)
        named, budget = composed(selector, pool, config)
        if config.extends:
            kept_positions(pool, _earlier(examples.storage, config), named.forbidden, budget)
        if config.shares and selector.takes_budget:
            quotas_of(pool.take(named.free(len(pool))), budget - len(named.required), config)


def _earlier(storage: Storage, config: SelectionConfig) -> Earlier:
    """Return the selection that is extended, which lies in the same storage."""
    folder = f"select/{config.extends}"
    if not is_finished(storage, "select", str(config.extends)):
        raise InputError(f"selection.extends={config.extends}: {storage.uri_of(folder)} holds no finished selection")
    manifest = read_manifest(storage, "select", str(config.extends))
    theirs = manifest["identity"]["selector"]
    if theirs != config.selector:
        raise InputError(f"selection.extends={config.extends} was chosen by {theirs}, not by {config.selector}: leave "
                         f"selection.selector={theirs}, or start over")
    examples = f"prepare/{manifest['parents']['examples']}/examples"
    candidates = [storage.read_table(f"{examples}/{name}", ["example_id"]) for name in storage.list_names(examples)]
    if not candidates:
        raise InputError(f"selection.extends={config.extends}: {storage.uri_of(examples)}, the rows that it was chosen "
                         "from, is gone: start over without selection.extends")
    chosen = storage.read_table(f"{folder}/selection.parquet", ["example_id"])
    return Earlier(*(table["example_id"].combine_chunks() for table in (chosen, pa.concat_tables(candidates))))


def work(step: Step, sizes: Sizes) -> Work:
    """Return how many rows are chosen."""
    return Work(sizes.selected(step.of).rows)


def _scores_file(config: SelectionConfig) -> Path:
    file = Path(config.scores or "").expanduser()
    if not file.is_file():
        raise InputError(f"selection.scores={config.scores!r} must name a Parquet file of example_id and score")
    return file


def _scores(config: SelectionConfig) -> pa.Table:
    return read_parquet(_scores_file(config), "selection.scores")


def run_select(
    artifact: Artifact, config: SelectionConfig, seed: int, inputs: Mapping[str, Artifact]
) -> dict[str, Any]:
    """Write `selection.parquet`, and the chosen rows by rank as `subset.jsonl` and `subset.parquet`.

    An example that another model's tokenizer cannot use (its response lies beyond max_length there) is no candidate.

    Parameters
    ----------
    inputs
        The pool as the proxy sees it (`examples`), as the target sees it, and each table that the selector needs.
    """
    from s2l_ray.execution.local.machine import this_machine  # optional: a base install has not all that it needs

    given: dict[str, Any] = {"artifact": artifact, "config": config, "seed": seed, "inputs": dict(inputs)}
    machine = this_machine()
    is_warm = machine is not None and machine.is_warm  # with scikit-learn, which takes seconds to load
    manifest = dict(machine.ask(_select, **given)) if machine is not None and is_warm else _select(**given)
    for remark in artifact.read_json("findings.json").get("remarks", []):
        note(f"select {config.selector}: {remark}")
    return manifest


def _select(
    artifact: Artifact, config: SelectionConfig, seed: int, inputs: Mapping[str, Artifact]
) -> dict[str, Any]:
    """Select, in whichever process."""
    started, examples = time.time(), inputs["examples"]
    selector = SELECTORS.find(config.selector)
    if Need.TRAJECTORIES in selector.needs:
        table = chunked_from_shards(inputs[Need.TRAJECTORIES], "shards")
    else:
        table = chunked_from_shards(examples, "examples")
    num_pool, expected = table.num_rows, examples.manifest()["rows"]["examples"]
    if num_pool != expected:
        folders = " and ".join(inputs[name].folder for name in ("examples", Need.TRAJECTORIES) if name in inputs)
        raise RuntimeError(f"{num_pool} rows for {expected} examples: delete {folders} and run again")
    if inputs[_TARGET].fingerprint != examples.fingerprint:
        table = _only(table, chunked_from_shards(inputs[_TARGET], "examples").read(["example_id"]))
    embeddings = scores = None
    for need in sorted(selector.needs & VECTORS):
        embeddings = chunked_from_shards(inputs[need], "shards").read()
        table = _only(table, embeddings)
    if Need.SCORES in selector.needs:
        scores = _scores(config)
    probes = {str(name): chunked_from_shards(inputs[name], "shards").read() for name in PROBES if name in inputs}
    pass_rates = None
    if Need.PASS_RATES in selector.needs:
        pass_rates = _checked(chunked_from_shards(inputs[Need.PASS_RATES], "shards").read())
        table = _only(table, pass_rates)
    pool = pool_of(table, selector.needs, embeddings, scores, probes, _wanted(config, inputs), pass_rates)
    earlier = _earlier(artifact.storage, config) if config.extends else None
    selection, facts = run_selector(selector, pool, config, seed, dict(artifact.parents), earlier)
    artifact.write_table("selection.parquet", selection)
    _write_subset(artifact, examples, selection["example_id"])
    artifact.write_json("findings.json", facts)
    return artifact.publish(
        {
            "rows": {"pool": num_pool, "candidates": metadata_of(selection.schema)["num_candidates"],
                     "selected": selection.num_rows},
            "selection": metadata_of(selection.schema),
            "sources": _shares(table, selection),
        },
        started,
    )


def _checked(samples: pa.Table) -> pa.Table:
    """Return the pass rates of the examples whose answers could be checked."""
    found = samples.filter(pc.is_valid(samples["num_right"]))
    rates = pc.divide(found["num_right"].cast(pa.float64()), found["num_samples"].cast(pa.float64()))
    return pa.table({"example_id": found["example_id"], "pass_rate": rates})


def _wanted(config: SelectionConfig, inputs: Mapping[str, Artifact]) -> pa.Table | None:
    """Return the embeddings of the tasks' examples, with the task of each."""
    tables = {task.name: chunked_from_shards(inputs[of_wanted(task.name)], "shards").read()
              for task in config.task_examples if of_wanted(task.name) in inputs}
    parts = [table.append_column("task", pa.array([name] * table.num_rows)) for name, table in tables.items()]
    return pa.concat_tables(parts) if parts else None


def _only(table: ChunkedTable, usable: pa.Table) -> ChunkedTable:
    """Return the rows whose example is in the other table too."""
    ids = usable["example_id"].combine_chunks()
    return table.only([mask.to_numpy() for mask in table.each(["example_id"], lambda _, part: pc.is_in(
        part["example_id"], value_set=ids))])


def _write_subset(artifact: Artifact, examples: Artifact, ids: pa.ChunkedArray) -> None:
    """Write the chosen rows in rank order, unchanged."""
    wanted, found = ids.combine_chunks(), []
    for name in examples.list_names("originals"):
        table = examples.read_table(f"originals/{name}")
        found.append(table.filter(pc.is_in(table["example_id"], value_set=wanted)))
    rows = pa.concat_tables(found, promote_options="default")
    rows = rows.take(pc.index_in(wanted, value_set=rows["example_id"].combine_chunks()))
    _write_rows(artifact.storage, f"{artifact.folder}/", rows)


def _write_rows(storage: Storage, folder: str, rows: pa.Table) -> None:
    storage.write_bytes(f"{folder}subset.jsonl", "".join(f"{line}\n" for line in json_lines(rows)).encode())
    storage.write_table(f"{folder}subset.parquet", typed_table(rows))


def _shares(table: ChunkedTable, selection: pa.Table) -> dict[str, dict[str, int]]:
    """Return how many examples of each source are in the pool and in the selection, the largest source first."""
    ids = selection["example_id"].combine_chunks()
    pool: Counter = Counter()
    selected: Counter = Counter()
    for part in table.each(["example_id", "source"], lambda _, part: part):
        chosen = part.filter(pc.is_in(part["example_id"], value_set=ids))
        for counts, rows in ((pool, part), (selected, chosen)):
            counts.update({e["values"]: e["counts"] for e in pc.value_counts(rows["source"]).to_pylist()})
    return {source: {"pool": count, "selected": selected[source]} for source, count in pool.most_common()}


def early_from_file(file: Path, config: SelectionConfig) -> dict[str, Any]:
    """Return how far selections by fewer points of a trajectories table agree with that by all (`early_agreement`)."""
    table, _ = read_trajectories_file(file, what="--early")
    return early_agreement(table, config, config.seed or 0)


def select_from_file(
    file: Path, config: SelectionConfig, seed: int, output: Path, *, embeddings: Path | None = None,
    task_embeddings: Path | None = None, kind: Kind = "nats", drop_non_finite: bool = False,
    rows: DataConfig | None = None, id_column: str | None = None,
) -> dict[str, Any]:
    """Select from anybody's trajectories table (see `tables.losses_file` for its columns), without Ray or a model.

    Writes `selection.parquet`, `selection.jsonl`, `findings.json` and, for the rows left out, `quarantine.parquet`
    into `output`, with `rows` the chosen ones of them too, as `subset.jsonl` and `subset.parquet` (see
    `rows.picked.pick_rows`); returns the selection's origin with `num_dropped`. A selector that needs no trajectories
    takes any table with example_id, unless `kind` or `drop_non_finite` says something about its losses. `selectors.api`
    does the same for Python.

    Raises
    ------
    InputError
        A file is missing, no Parquet, or its columns do not serve; the budget does not fit; a chosen id is in no row.
    """
    found = select_from_table(
        chunked_from_parquet(file, "--trajectories"), f"--trajectories {file}", config, seed,
        embeddings=None if embeddings is None else read_parquet(embeddings, "--embeddings"),
        tasks=None if task_embeddings is None else read_parquet(task_embeddings, "--task-embeddings"),
        scores=_scores(config) if Need.SCORES in SELECTORS.find(config.selector).needs else None,
        kind=kind, drop_non_finite=drop_non_finite,
    )
    chosen = found.selection["example_id"].to_pylist()
    picked = None if rows is None else pick_rows(rows, Storage(str(output.absolute())), chosen, id_column)
    folder = found.write(output, "--output")
    if picked is not None:
        _write_rows(folder, "", picked)
    return {**metadata_of(found.selection.schema), "num_dropped": found.dropped.num_rows}
