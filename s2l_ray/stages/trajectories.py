"""trajectories: the loss of every example at every trajectory point, one pass over each shard."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from s2l_ray.execution.precision import settle_precision
from s2l_ray.execution.shards import run_shards
from s2l_ray.modeling.batching import padded_tokens
from s2l_ray.modeling.losses import LossScorer, table_losses
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import load_from, parameter_count
from s2l_ray.modeling.schedule import TrajectoryPoint
from s2l_ray.modeling.throughput import matmul_rate, scoring_operations, throughput_facts
from s2l_ray.progress.notes import note
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.scoring import TrajectoryConfig
from s2l_ray.stages.planning import Planning, Step
from s2l_ray.stages.table import stage_of
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage
from s2l_ray.tables.schemas import shard_name, trajectories_schema, with_metadata

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # heavy: most commands start without a model

_MEMORY_SHARE = 0.5  # of what is free, for all models of all scoring processes of one node
_BYTES_PER_WEIGHT = {"fp32": 4, "bf16": 6}  # in bf16 the head and the embeddings are held in fp32 too
_NUM_COMPARED = 64


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of the trajectories, named by the proxy's points, the examples, the arithmetic of scoring."""
    recipe, proxy, examples = planning.recipe, planning.artifact("proxy"), planning.artifact("examples")
    parents = {"proxy": proxy.fingerprint, "examples": examples.fingerprint}
    artifact = Artifact(planning.storage, "trajectories", recipe.trajectory.scoring_identity(), parents)
    return Step(stage_of("trajectories"), artifact, partial(run_trajectories, artifact, proxy, examples, recipe))


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
    arguments = {"artifact": artifact, "proxy": proxy, "examples": examples, "config": config, "points": points}
    run = run_shards("trajectories", artifact, examples, _ShardScorer, arguments, recipe.resources)
    _check_losses(artifact, run.shards, len(points))
    facts = {
        **run.facts,
        "points": [{"step": point.step, "fraction": point.fraction} for point in points],
        "precision": precision,
        **_throughput_facts(run.rows, time.time() - started),
        **_agreement_facts(run.rows),
    }
    return artifact.publish(facts, started)


def _throughput_facts(rows: list[dict[str, Any]], wall_s: float) -> dict[str, Any]:
    """Return, and say, how fast the pass was."""
    facts = throughput_facts(rows, wall_s)
    if rows:
        note(f"trajectories: {facts['tokens_per_s']:,.0f} tokens/s, {facts['peak_share']:.0%} of the rate of matrix "
             f"products while scoring, {facts['padding_share']:.1%} padding")
    return facts


def _agreement_facts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return, and say, how far bf16's losses are from fp32's, where they were compared."""
    compared = [row for row in rows if row["num_compared"]]
    if not compared:
        return {}
    row = compared[0]
    note(f"trajectories: bf16 is within {row['largest_difference']:.4f} nats of fp32 (mean "
         f"{row['mean_difference']:.4f}) on {row['num_compared']} examples")
    return {"bf16_from_fp32": {name: row[name] for name in ("num_compared", "mean_difference", "largest_difference")}}


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


class _ShardScorer:
    """Scores shards at all points. Keeps as many of the points' models in memory as fit, the rest in turns."""

    def __init__(self, artifact: Artifact, proxy: Artifact, examples: Artifact, config: TrajectoryConfig,
                 points: list[TrajectoryPoint]) -> None:
        self._artifact, self._proxy, self._examples = artifact, proxy, examples
        self._config, self._points = config, points
        self._device = start_scoring()
        self._peak_rate = matmul_rate(self._device, "bf16" if config.precision == "bf16" else "fp32")
        self._group_size = self._models_that_fit()
        self._loaded: tuple[int, list[LossScorer]] = (-1, [])

    def run(self, shard: str) -> Mapping[str, Any]:
        started = time.perf_counter()
        table = self._examples.read_table(f"examples/{shard}")
        groups = range(0, len(self._points), self._group_size)
        losses_NC = np.concatenate(
            [table_losses(self._scorers(first), table, self._config.batch_tokens) for first in groups], axis=1
        )
        model_s = time.perf_counter() - started
        self._refuse_non_finite(shard, table, losses_NC)
        facts = self._account(table, model_s) | self._compare(shard, table, losses_NC[:, -1])
        self._artifact.write_table(f"shards/{shard}", self._result(table, losses_NC))
        return facts

    def _account(self, table: pa.Table, model_s: float) -> dict[str, Any]:
        """Return what the scoring of a shard took, in tokens, products and seconds."""
        num_points, lengths = len(self._points), table["num_tokens"].to_numpy()
        num_tokens, num_supervised = int(lengths.sum()), int(table["num_supervised_tokens"].to_numpy().sum())
        return {
            "num_tokens": num_tokens * num_points,
            "num_padded_tokens": padded_tokens(lengths, self._config.batch_tokens) * num_points,
            "operations": scoring_operations(self._loaded[1][0].model, num_tokens, num_supervised) * num_points,
            "model_s": model_s,
            "peak_rate": self._peak_rate,
        }

    def _compare(self, shard: str, table: pa.Table, losses_N: np.ndarray) -> dict[str, Any]:
        """Return how far bf16's losses at the last point are from fp32's, on some rows of the first shard."""
        if self._config.precision != "bf16" or not shard.startswith(shard_name(0)):
            return {"num_compared": 0, "mean_difference": 0.0, "largest_difference": 0.0}
        rows = np.unique(np.linspace(0, table.num_rows - 1, _NUM_COMPARED).astype(np.int64))
        exact = LossScorer(self._model(self._points[-1]), "fp32")
        exact_N = table_losses([exact], table.take(pa.array(rows)), self._config.batch_tokens)[:, 0]
        away_N = np.abs(exact_N - losses_N[rows])
        return {"num_compared": len(rows), "mean_difference": float(away_N.mean()),
                "largest_difference": float(away_N.max())}

    def _result(self, table: pa.Table, losses_NC: np.ndarray) -> pa.Table:
        losses = pa.FixedSizeListArray.from_arrays(pa.array(losses_NC.reshape(-1)), len(self._points))
        columns = [*(table[name] for name in ("example_id", "source", "num_supervised_tokens")), losses]
        result = pa.table(columns, schema=trajectories_schema(len(self._points)))
        return with_metadata(result, {"points": [{"step": p.step, "fraction": p.fraction} for p in self._points]})

    def _refuse_non_finite(self, shard: str, table: pa.Table, losses_NC: np.ndarray) -> None:
        bad = np.argwhere(~np.isfinite(losses_NC))
        if len(bad):
            row, column = bad[0].tolist()
            raise RuntimeError(
                f"{shard}: the loss of example {table['example_id'][row].as_py()!r} at step "
                f"{self._points[column].step} is {losses_NC[row, column]}: the proxy diverged, "
                "lower proxy.learning_rate"
            )

    def _scorers(self, first: int) -> list[LossScorer]:
        if self._loaded[0] != first:
            self._loaded = (-1, [])  # let go of the old group before the new one needs the memory
            points = self._points[first : first + self._group_size]
            self._loaded = (first, [LossScorer(self._model(point), self._config.precision) for point in points])
        return self._loaded[1]

    def _model(self, point: TrajectoryPoint) -> "PreTrainedModel":
        return load_from(self._proxy, point.folder).to(self._device)  # type: ignore[arg-type]

    def _models_that_fit(self) -> int:
        with self._proxy.local_folder(self._points[-1].folder) as folder:
            bytes_each = _BYTES_PER_WEIGHT[self._config.precision] * parameter_count(folder)
        if self._device.type == "cuda":
            free = torch.cuda.mem_get_info()[0]
        else:
            free = psutil.virtual_memory().available // (psutil.cpu_count() or 1)
        return int(min(len(self._points), max(1, _MEMORY_SHARE * free // max(bytes_each, 1))))
