"""Score a shard of examples at all trajectory points."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import torch
from transformers import PreTrainedModel

from s2l_ray.modeling.batch_size import BatchSize
from s2l_ray.modeling.batching import padded_tokens, padding_multiple
from s2l_ray.modeling.losses import LossScorer, fitted_losses
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import load_from, parameter_count
from s2l_ray.modeling.schedule import TrajectoryPoint
from s2l_ray.modeling.throughput import matmul_rate, scoring_operations
from s2l_ray.recipe.scoring import TrajectoryConfig
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.schemas import shard_name, trajectories_table

_MEMORY_SHARE = 0.5  # of what is free, for all models of all scoring processes of one node
_BYTES_PER_WEIGHT = {"fp32": 4, "bf16": 6}  # in bf16 the head and the embeddings are held in fp32 too
_NUM_COMPARED = 64


class ShardScorer:
    """Scores shards at all points. Keeps as many of the points' models in memory as fit, the rest in turns."""

    def __init__(self, artifact: Artifact, proxy: Artifact, examples: Artifact, config: TrajectoryConfig,
                 points: list[TrajectoryPoint]) -> None:
        self._artifact, self._proxy, self._examples = artifact, proxy, examples
        self._config, self._points = config, points
        self._device = start_scoring()
        self._peak_rate = matmul_rate(self._device, "bf16" if config.precision == "bf16" else "fp32")
        self._group_size = self._models_that_fit()
        self._size = BatchSize(config.batch_tokens, self._device)
        self._loaded: tuple[int, list[LossScorer]] = (-1, [])

    def run(self, shard: str) -> Mapping[str, Any]:
        started = time.perf_counter()
        table = self._examples.read_table(f"examples/{shard}")
        groups = range(0, len(self._points), self._group_size)
        losses_NC = np.concatenate([fitted_losses(self._scorers(first), table, self._size) for first in groups], axis=1)
        model_s = time.perf_counter() - started
        self._refuse_non_finite(shard, table, losses_NC)
        facts = self._account(table, model_s) | self._compare(shard, table, losses_NC)
        self._artifact.write_table(f"shards/{shard}", self._result(table, losses_NC))
        return facts

    def _account(self, table: pa.Table, model_s: float) -> dict[str, Any]:
        """Return what the scoring of a shard took, in tokens, products and seconds."""
        num_points, lengths = len(self._points), table["num_tokens"].to_numpy()
        num_tokens, num_supervised = int(lengths.sum()), int(table["num_supervised_tokens"].to_numpy().sum())
        return {
            "num_tokens": num_tokens * num_points,
            "num_padded_tokens": padded_tokens(lengths, self._size.tokens, padding_multiple(self._device)) * num_points,
            "batch_tokens": self._size.tokens,
            "device": self._device.type,
            "operations": scoring_operations(self._loaded[1][0].model, num_tokens, num_supervised) * num_points,
            "model_s": model_s,
            "peak_rate": self._peak_rate,
        }

    def _compare(self, shard: str, table: pa.Table, losses_NC: np.ndarray) -> dict[str, Any]:
        """Return how far bf16's losses at the last point are from fp32's, on some rows of the first shard.

        What the proxy has learned of these rows, the fall of their loss between the first point and the last, says
        whether that is much: weights that were published in bf16 are changed by less than bf16 can tell apart.
        """
        if self._config.precision != "bf16" or not shard.startswith(shard_name(0)):
            return {"num_compared": 0}
        rows = np.unique(np.linspace(0, table.num_rows - 1, _NUM_COMPARED).astype(np.int64))
        exact = LossScorer(self._model(self._points[-1]), "fp32")
        exact_N = fitted_losses([exact], table.take(pa.array(rows)), self._size)[:, 0]
        away_N = losses_NC[rows, -1] - exact_N
        return {"num_compared": len(rows), "mean_difference": float(np.abs(away_N).mean()),
                "largest_difference": float(np.abs(away_N).max()), "mean_excess": float(away_N.mean()),
                "mean_learned": float((losses_NC[rows, 0] - exact_N).mean())}

    def _result(self, table: pa.Table, losses_NC: np.ndarray) -> pa.Table:
        losses = pa.FixedSizeListArray.from_arrays(pa.array(losses_NC.reshape(-1)), len(self._points))
        return trajectories_table(table, losses, [point.record for point in self._points])

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

    def _model(self, point: TrajectoryPoint) -> PreTrainedModel:
        return load_from(self._proxy, point.folder, device=self._device)

    def _models_that_fit(self) -> int:
        with self._proxy.local_folder(self._points[-1].folder) as folder:
            bytes_each = _BYTES_PER_WEIGHT[self._config.precision] * parameter_count(folder)
        if self._device.type == "cuda":
            free = torch.cuda.mem_get_info()[0]
        else:
            free = psutil.virtual_memory().available // (psutil.cpu_count() or 1)
        return int(min(len(self._points), max(1, _MEMORY_SHARE * free // max(bytes_each, 1))))
