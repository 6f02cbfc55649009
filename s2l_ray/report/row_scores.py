"""Every row of a run's pool with what the run found of it, as one table for pandas, DuckDB and other tools."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2l_ray.errors import InputError
from s2l_ray.report.arms import Arm
from s2l_ray.report.members import nearest_clusters, with_recorded
from s2l_ray.report.pool import beside, fractions_of, losses_of
from s2l_ray.report.study import Study, read_study
from s2l_ray.selectors.methods.learning_percentage import epoch_1_point, learning_percentages
from s2l_ray.storage.files import Storage
from s2l_ray.tables.schemas import losses_matrix

_EXAMPLE = ["example_id", "source", "num_tokens", "num_supervised_tokens"]
_UNUSABLE = "no candidate: the target's tokenizer leaves nothing of its response"


@dataclass(frozen=True)
class _Selection:
    """One arm's finished selection."""

    name: str
    table: pa.Table
    """selection.parquet, by rank."""
    clusters: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    candidates: pa.Array | None
    """The ids that the target can use; None where that is every one."""


@dataclass(frozen=True)
class _Points:
    """Where the losses are, and at which steps and fractions."""

    trajectories: str
    """Fingerprint."""
    steps: list[int]
    fractions_C: np.ndarray
    epoch_1: int | None
    """The point that ends the first epoch; None where no recorded one does."""


def write_row_scores(run: str, storage: str, output: Path | None) -> dict[str, Any]:
    """Write the table of a run or sweep, one shard at a time; return its file, rows and columns.

    Columns are the row's id, place (file, row), source and lengths; the loss at each point (`loss_STEP`), their mean,
    the last one and by how much the loss fell, in nats; the learning percentage (arXiv 2402.10430) where the end of an
    epoch was recorded; and for each selection ARM its `rank` (0 is the first, null where it was not chosen), `cluster`,
    `distance` to the centroid and, in words, `why`. A row that was not chosen is in the cluster of the nearest recorded
    centroid, whose four decimals may put one that lies between two into the other.

    Raises
    ------
    InputError
        There is no such run, or it has no finished selection.
    """
    study = read_study([run], storage)
    arms = [arm for arm in study.arms if study.manifest_of(arm, "select") is not None]
    if not arms:
        raise InputError(f"{run!r} has no finished selection: run it at least to `select`")
    selections, pool = [_selection(study, arm) for arm in arms], _pool_of(study, arms[0])
    if any(_pool_of(study, arm) != pool for arm in arms):
        raise InputError(f"the trials of {run!r} select from different pools: give the name of a run")
    place, points = arms[0].storage, _points_of(study, arms[0], pool)
    target = Storage(str(output.absolute().parent)) if output else place
    name = output.name if output else f"{study.records[0].folder}/scores.parquet"
    num_rows, writer = 0, None
    with target.writing(name) as path:
        try:
            for table in _tables(place, pool, points, selections):
                writer = writer or pq.ParquetWriter(path, table.schema, target.filesystem, compression="zstd")
                writer.write_table(table)
                num_rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
    assert writer is not None, "a pool has a row"
    return {"file": target.uri_of(name), "rows": num_rows, "columns": writer.schema.names}


def _pool_of(study: Study, arm: Arm) -> str:
    manifest = study.manifest_of(arm, "select")
    assert manifest is not None
    return str(manifest["parents"]["examples"])


def _selection(study: Study, arm: Arm) -> _Selection:
    manifest, folder = study.manifest_of(arm, "select"), f"select/{arm.fingerprint('select')}"
    assert manifest is not None
    examples = manifest["parents"]["examples"]
    seen = manifest["parents"].get("target_examples", examples)
    candidates = None if examples == seen else pa.concat_arrays([
        arm.storage.read_table(f"prepare/{seen}/examples/{name}", ["example_id"])["example_id"].combine_chunks()
        for name in arm.storage.list_names(f"prepare/{seen}/examples")])
    return _Selection(arm.trial, arm.storage.read_table(f"{folder}/selection.parquet"),
                      arm.storage.read_json(f"{folder}/findings.json").get("clusters", []),
                      manifest["selection"], candidates)


def _points_of(study: Study, arm: Arm, pool: str) -> _Points | None:
    trajectories = study.trajectories_of(arm, pool)
    if trajectories is None:
        return None
    fractions_C = fractions_of(trajectories)
    try:
        epoch_1 = epoch_1_point(fractions_C, float(study.recipe["selection"]["epoch_1_fraction"]))
    except InputError:  # no point there: the table is without that column
        epoch_1 = None
    steps = [int(point["step"]) for point in trajectories["points"]]
    return _Points(trajectories["fingerprint"], steps, fractions_C, epoch_1)


def _tables(
    storage: Storage, pool: str, points: _Points | None, selections: Sequence[_Selection]
) -> Iterator[pa.Table]:
    """Yield the table of each shard."""
    for shard in storage.list_names(f"prepare/{pool}/examples"):
        table = storage.read_table(f"prepare/{pool}/examples/{shard}", _EXAMPLE)
        origin = beside(table, storage, f"prepare/{pool}/originals/{shard}", ["file", "row"])
        columns = {"example_id": table["example_id"], "file": origin["file"], "row": origin["row"]}
        columns |= {name: table[name] for name in _EXAMPLE[1:]}
        losses_NC = fractions_C = None
        if points is not None:
            losses = losses_of(storage, points.trajectories, shard, table)
            losses_NC, fractions_C = losses_matrix(pa.table({"losses": losses})), points.fractions_C
            columns |= _of_losses(losses_NC, points)
        for selection in selections:
            columns |= _of_selection(selection, table, losses_NC, fractions_C)
        yield pa.table(columns)


def _of_losses(losses_NC: np.ndarray, points: _Points) -> dict[str, np.ndarray]:
    columns = {f"loss_{step}": losses_NC[:, point] for point, step in enumerate(points.steps)}
    columns |= {"mean_loss": losses_NC.mean(axis=1, dtype=np.float64), "last_loss": losses_NC[:, -1],
                "loss_fall": losses_NC[:, 0] - losses_NC[:, -1]}
    if points.epoch_1 is not None:
        columns["learning_percentage"] = learning_percentages(losses_NC[:, [0, points.epoch_1, -1]])
    return columns


def _of_selection(
    selection: _Selection, examples: pa.Table, losses_NC: np.ndarray | None, fractions_C: np.ndarray | None
) -> dict[str, Any]:
    """Return an arm's columns for a shard's rows."""
    ids = examples["example_id"].combine_chunks()
    ranks = pc.index_in(ids, value_set=selection.table["example_id"].combine_chunks())
    places_N = pc.fill_null(ranks, -1).to_numpy()
    sources_N = np.array(examples["source"].to_pylist(), dtype=object)
    labels_N, distances_N = nearest_clusters(selection.clusters, selection.settings, losses_NC, fractions_C, sources_N)
    with_recorded(selection.table, places_N, labels_N, distances_N)
    usable_N = np.ones(len(ids), dtype=bool) if selection.candidates is None else pc.is_in(
        ids, value_set=selection.candidates).to_numpy(zero_copy_only=False)
    names = f"{selection.name}_rank", f"{selection.name}_cluster", f"{selection.name}_distance", f"{selection.name}_why"
    return dict(zip(names, (
        ranks.cast(pa.int64()), pa.array(labels_N, mask=(labels_N < 0) | ~usable_N),
        pa.array(distances_N, mask=np.isnan(distances_N) | ~usable_N),
        pa.array(_why(places_N >= 0, usable_N, labels_N, selection.clusters), pa.string()),
    ), strict=True))


def _why(
    chosen_N: np.ndarray, usable_N: np.ndarray, labels_N: np.ndarray, clusters: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return in words why each row was chosen or not."""
    said = {int(c["cluster"]): f"cluster {c['cluster']} gave {c['quota']} of its {c['size']}" for c in clusters}
    words = []
    for is_chosen, is_usable, label in zip(chosen_N.tolist(), usable_N.tolist(), labels_N.tolist(), strict=True):
        verdict = "kept" if is_chosen else "not kept"
        words.append(_UNUSABLE if not is_usable else f"{verdict}: {said[label]}" if label in said else verdict)
    return words
