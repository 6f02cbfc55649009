"""trajectories: the loss of every example at every trajectory point, one pass over each shard."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2l_ray.errors import InputError
from s2l_ray.execution.attempts import Worker
from s2l_ray.execution.precision import settle_precision
from s2l_ray.execution.shards import run_shards
from s2l_ray.modeling.adapters import BASE
from s2l_ray.modeling.schedule import TRAINED_ON, TrajectoryPoint, plan_training
from s2l_ray.modeling.speed import throughput_facts
from s2l_ray.progress.notes import note
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.scoring import TrajectoryConfig
from s2l_ray.stages.planning import Planning, Step
from s2l_ray.stages.table import stage_of
from s2l_ray.stages.work import Sizes, Work, scoring_work
from s2l_ray.storage.artifacts import Artifact, folder_digest, is_finished, read_manifest
from s2l_ray.storage.files import Storage
from s2l_ray.tables.schemas import trajectories_schema, trajectories_table, with_metadata

_MOST_HIDDEN = 0.1
"""Of what the proxy learned; what bf16 hides beyond it is said."""


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of the trajectories, named by the proxy's points, the examples, the arithmetic of scoring."""
    recipe, proxy, examples = planning.recipe, planning.artifact("proxy"), planning.artifact("examples")
    parents = {"proxy": proxy.fingerprint, "examples": examples.fingerprint}
    artifact = Artifact(planning.storage, "trajectories", recipe.trajectory.scoring_identity(), parents)
    return Step(stage_of("trajectories"), artifact, partial(run_trajectories, artifact, proxy, examples, recipe))


def work(step: Step, sizes: Sizes) -> Work:
    """Return what a pass of each point's model does."""
    recipe, pool = sizes.recipe, sizes.pool(None)
    passes = len(plan_training(recipe.proxy, pool.rows, recipe.trajectory).points)
    return scoring_work(sizes, "proxy.model", pool, passes, recipe.trajectory.precision)


def run_trajectories(artifact: Artifact, proxy: Artifact, examples: Artifact, recipe: Recipe) -> dict[str, Any]:
    """Write one file of losses for each shard of examples; finished shards of an earlier run stay.

    Raises
    ------
    RuntimeError
        A loss is not finite, or the table is not one row for each example.
    """
    started = time.time()
    points = [TrajectoryPoint(**point) for point in proxy.manifest()["points"]]
    precision = settle_precision(artifact, recipe.trajectory.precision, recipe.resources)
    config = recipe.trajectory.model_copy(update={"precision": precision})
    if config.known is not None:
        _take_known(artifact, proxy, examples, config, points)
    arguments = {"artifact": artifact, "proxy": proxy, "examples": examples, "config": config, "points": points}
    run = run_shards("trajectories", artifact, examples, _scorer, arguments, recipe.resources)
    _check_losses(artifact, run.shards, len(points))
    facts = {
        **run.facts,
        "points": [point.record for point in points],
        "precision": precision,
        **_throughput_facts(run.rows, time.time() - started, needs_gpu=recipe.resources.use_gpu),
        **_agreement_facts(run.rows),
    }
    return artifact.publish(facts, started)


def _take_known(
    artifact: Artifact, proxy: Artifact, examples: Artifact, config: TrajectoryConfig, points: list[TrajectoryPoint]
) -> None:
    """Copy the losses of shards that are the same, rows and order, as those of trajectories by the same points.

    They are what scoring would give, to the byte: a shard decides its own batches.
    """
    storage, folder = artifact.storage, f"trajectories/{config.known}"
    if not is_finished(storage, "trajectories", str(config.known)):
        raise InputError(f"trajectory.known={config.known}: {storage.uri_of(folder)} holds no finished trajectories")
    manifest = read_manifest(storage, "trajectories", str(config.known))
    parents = manifest["parents"]
    reason = _differs(artifact, proxy, config, points, manifest, f"proxy/{parents['proxy']}")
    if reason:
        note(f"trajectories: {folder} {reason}, so every row is scored")
        return
    num_taken = 0
    for shard in examples.list_names("examples"):
        old = f"prepare/{parents['examples']}/examples/{shard}"
        if not storage.exists(old):
            continue
        ours = examples.read_table(f"examples/{shard}")
        if ours.select(TRAINED_ON).equals(storage.read_table(old, TRAINED_ON)):
            losses = storage.read_table(f"{folder}/shards/{shard}", ["losses"])["losses"].combine_chunks()
            table = trajectories_table(ours, losses, [point.record for point in points])
            artifact.write_table(f"shards/{shard}", table)
            num_taken += table.num_rows
    note(f"trajectories: {num_taken:,} rows have their losses from {folder}: the others are scored")


def _differs(
    artifact: Artifact, proxy: Artifact, config: TrajectoryConfig, points: list[TrajectoryPoint],
    manifest: dict[str, Any], other: str,
) -> str | None:
    """Return what makes known losses others than those that are asked for; `other` is the folder of their proxy."""
    if manifest["identity"] != dict(artifact.identity) or manifest["precision"] != config.precision:
        return f"was computed in {manifest['precision']} or other batches"
    if [point["step"] for point in manifest["points"]] != [point.step for point in points]:
        return "is by other points"
    last = points[-1].folder
    if not artifact.storage.exists(f"{other}/{last}"):
        return f"is by points ({other}) that are gone and cannot be compared"
    with proxy.local_folder(last) as own, artifact.storage.local_folder(f"{other}/{last}") as their:
        # Of adapters the base counts, too.
        one, other_one = (folder_digest(place, (".safetensors",), also=BASE) for place in (own, their))
    return None if one == other_one else "is by other weights"


def _throughput_facts(rows: list[dict[str, Any]], wall_s: float, *, needs_gpu: bool) -> dict[str, Any]:
    """Return, and say, how fast the pass was."""
    facts = throughput_facts(rows, wall_s)
    if rows:
        note(f"trajectories: {facts['tokens_per_s']:,.0f} tokens/s, {facts['peak_share']:.0%} of the rate of matrix "
             f"products while scoring, {facts['padding_share']:.1%} padding")
    without = sum(row["device"] == "cpu" for row in rows)
    if needs_gpu and without:
        note(f"trajectories: {without:,} of {len(rows):,} shards were scored on CPUs though resources.use_gpu is on: "
             "torch there sees no GPU; install a build with CUDA on these nodes")
    return facts


def _agreement_facts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return, and say, how far bf16's losses are from fp32's, where they were compared."""
    compared = [row for row in rows if row["num_compared"]]
    if not compared:
        return {}
    row = compared[0]
    note(f"trajectories: bf16 is within {row['largest_difference']:.4f} nats of fp32 (mean "
         f"{row['mean_difference']:.4f}) on {row['num_compared']} examples")
    hidden = row["mean_excess"] / row["mean_learned"] if row["mean_learned"] > 0 else 0.0
    if hidden > _MOST_HIDDEN:
        seen = row["mean_learned"] - row["mean_excess"]
        note(f"trajectories: bf16 hides {hidden:.0%} of what the proxy learned (its loss fell by "
             f"{row['mean_learned']:.3f} nats, by {seen:.3f} in bf16): training changed its weights by less than bf16 "
             "can tell apart. trajectory.precision=fp32 shows all of it, in more time")
    names = ("num_compared", "mean_difference", "largest_difference", "mean_excess", "mean_learned")
    return {"bf16_from_fp32": {name: row[name] for name in names}}


def _check_losses(artifact: Artifact, shards: list[str], num_points: int) -> None:
    """Prove that every example has a finite loss at every point."""
    for shard in shards:
        losses = artifact.read_table(f"shards/{shard}", ["losses"])["losses"].combine_chunks()
        values = losses.flatten()
        if len(values) != num_points * len(losses) or not pc.all(pc.is_finite(values)).as_py():
            raise RuntimeError(f"trajectories of {shard} have missing or non-finite losses: delete {artifact.folder}")


def export_trajectories(artifact: Artifact, file: Path) -> dict[str, Any]:
    """Write a finished artifact's table as one Parquet file that `s2l select --trajectories` takes.

    One shard is in memory at a time; the file appears under its name when it is whole. Returns what was written.
    """
    target, num_rows = Storage(str(file.absolute().parent)), 0
    points = artifact.manifest()["points"]
    schema = with_metadata(trajectories_schema(len(points)).empty_table(), {"points": points}).schema
    with target.writing(file.name) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for name in artifact.list_names("shards"):
            shard = artifact.read_table(f"shards/{name}", schema.names)
            writer.write_table(shard.cast(schema))
            num_rows += shard.num_rows
    return {"file": str(file.absolute()), "rows": num_rows, "points": points}


def _scorer(**arguments: Any) -> Worker:
    from s2l_ray.stages.workers.scoring import ShardScorer  # heavy: torch, which the driver does without

    return ShardScorer(**arguments)
