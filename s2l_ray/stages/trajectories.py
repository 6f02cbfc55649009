"""trajectories: the loss of every example at every trajectory point, one pass over each shard."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import torch

from s2l_ray.artifacts import Artifact
from s2l_ray.config import ModelConfig, ResourcesConfig, TrajectoryConfig
from s2l_ray.execution.work import run_units
from s2l_ray.modeling.batching import ExampleTable, plan_batches
from s2l_ray.modeling.losses import LossScorer
from s2l_ray.modeling.memory import keep_freed_memory
from s2l_ray.modeling.models import load_model, parameter_count
from s2l_ray.modeling.schedule import TrajectoryPoint
from s2l_ray.tables import metadata_of, trajectories_schema, with_metadata

_MEMORY_SHARE = 0.5  # of what is free, for all models of all scoring processes of one node


def trajectories_artifact(proxy: Artifact, examples: Artifact, config: TrajectoryConfig) -> Artifact:
    """Name the trajectories: the proxy's points, the examples, and the arithmetic of scoring."""
    identity = {"precision": config.precision, "batch_tokens": config.batch_tokens}
    parents = {"proxy": proxy.fingerprint, "examples": examples.fingerprint}
    return Artifact(proxy.storage, "trajectories", identity, parents)


def run_trajectories(
    artifact: Artifact, proxy: Artifact, examples: Artifact, config: TrajectoryConfig, resources: ResourcesConfig
) -> dict[str, Any]:
    """Write one file of losses for each shard of examples; finished shards of an earlier run stay.

    Raises
    ------
    RuntimeError
        A loss is not finite, or the table is not one row for each example.
    """
    started, storage = time.time(), artifact.storage
    points = [TrajectoryPoint(**point) for point in proxy.manifest()["points"]]
    shards = storage.list_names(examples.file("examples"))
    finished = set(storage.list_names(artifact.file("shards")))
    arguments = {"artifact": artifact, "proxy": proxy, "examples": examples, "config": config, "points": points}
    todo = [shard for shard in shards if shard not in finished]
    rows = run_units("trajectories: score", _ShardScorer, arguments, todo, resources, actors=True, gpu=True)
    num_rows = _check_whole(artifact, examples, shards, len(points))
    facts = {
        "rows": {"examples": num_rows},
        "num_shards": len(shards),
        "num_shards_reused": len(finished),
        "points": [{"step": point.step, "fraction": point.fraction} for point in points],
        "num_tokens_scored": sum(row["num_tokens"] for row in rows) * len(points),
        "model_s": round(sum(row["model_s"] for row in rows), 3),
    }
    return artifact.publish(facts, started)


def _check_whole(artifact: Artifact, examples: Artifact, shards: list[str], num_points: int) -> int:
    """Prove that every example has exactly one row of finite losses; a hole must never look like data."""
    storage, total = artifact.storage, 0
    for shard in shards:
        scored = storage.read_table(artifact.file(f"shards/{shard}"))
        asked = storage.read_table(examples.file(f"examples/{shard}"), ["example_id"])
        if not scored["example_id"].equals(asked["example_id"]):
            raise RuntimeError(f"trajectories of {shard} are not those of its examples: delete {artifact.folder}")
        losses = scored["losses"].combine_chunks().flatten()
        if len(losses) != num_points * scored.num_rows or not pc.all(pc.is_finite(losses)).as_py():
            raise RuntimeError(f"trajectories of {shard} have missing or non-finite losses: delete {artifact.folder}")
        total += scored.num_rows
    expected = examples.manifest()["rows"]["examples"]
    if total != expected:
        raise RuntimeError(f"{total} trajectories for {expected} examples: delete {artifact.folder} and run again")
    return total


def read_trajectories(artifact: Artifact) -> pa.Table:
    """Return the whole trajectories table, with the points in its metadata."""
    storage = artifact.storage
    names = storage.list_names(artifact.file("shards"))
    tables = [storage.read_table(artifact.file(f"shards/{name}")) for name in names]
    whole = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    return with_metadata(whole, metadata_of(tables[0].schema))


class _ShardScorer:
    """Scores shards at all points. Keeps as many of the points' models in memory as fit, the rest in turns."""

    def __init__(self, artifact: Artifact, proxy: Artifact, examples: Artifact, config: TrajectoryConfig,
                 points: list[TrajectoryPoint]) -> None:
        keep_freed_memory()
        torch.set_num_threads(1)  # more actors instead; one thread gives the same bytes on every machine
        self._artifact, self._proxy, self._examples = artifact, proxy, examples
        self._config, self._points = config, points
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._group_size = self._models_that_fit()
        self._loaded: tuple[int, list[LossScorer]] = (-1, [])

    def run(self, shard: str) -> Mapping[str, Any]:
        started, storage = time.perf_counter(), self._artifact.storage
        table = storage.read_table(self._examples.file(f"examples/{shard}"))
        rows = ExampleTable(table)
        batches = plan_batches(table["num_tokens"].to_numpy(), self._config.batch_tokens)
        losses_NC = np.empty((table.num_rows, len(self._points)), dtype=np.float32)
        for first in range(0, len(self._points), self._group_size):
            scorers = self._scorers(first)
            for span in batches:
                batch = rows.batch(span, pad_id=0)  # padding is masked, so any id serves
                for column, scorer in enumerate(scorers, start=first):
                    losses_NC[span, column] = scorer.example_losses(batch).cpu().numpy()
        self._refuse_non_finite(shard, table, losses_NC)
        storage.write_table(self._artifact.file(f"shards/{shard}"), self._result(table, losses_NC))
        return {"num_tokens": int(np.sum(table["num_tokens"].to_numpy())), "model_s": time.perf_counter() - started}

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
            self._loaded = (first, [self._load(point) for point in points])
        return self._loaded[1]

    def _load(self, point: TrajectoryPoint) -> LossScorer:
        with self._proxy.storage.local_folder(self._proxy.file(point.folder)) as folder:
            model = load_model(ModelConfig(path=str(folder)), vocab_size=0, seed=0)
        return LossScorer(model.to(self._device), self._config.precision)  # type: ignore[arg-type]

    def _models_that_fit(self) -> int:
        with self._proxy.storage.local_folder(self._proxy.file(self._points[-1].folder)) as folder:
            bytes_each = 4 * parameter_count(folder)
        if self._device.type == "cuda":
            free = torch.cuda.mem_get_info()[0]
        else:
            free = psutil.virtual_memory().available // (psutil.cpu_count() or 1)
        return int(min(len(self._points), max(1, _MEMORY_SHARE * free // max(bytes_each, 1))))
