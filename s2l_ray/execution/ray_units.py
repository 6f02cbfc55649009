"""Units of work through Ray Data: tasks or actors, as many as the cluster has room for."""

import contextlib
import pickle
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.data.exceptions import ExecutionTimeoutError

from s2l_ray.errors import InputError
from s2l_ray.execution.attempts import STUCK, STUCK_S, Worker
from s2l_ray.execution.bundles import Bundle
from s2l_ray.execution.capacity import Waiting, num_fitting
from s2l_ray.execution.metrics import count_for_prometheus
from s2l_ray.execution.ray_attempts import counted_attempt, counted_attempts
from s2l_ray.execution.ray_internals import ExecutionCallback
from s2l_ray.recipe.resources import ResourcesConfig


class _UnitRunner:
    """What Ray Data calls: takes a unit out of its row and runs it."""

    def __init__(self, worker: Callable[..., Worker], arguments: dict[str, Any], name: str, count: Any) -> None:
        self._worker, self._name, self._count = worker(**arguments), name, count

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = [counted_attempt(self._count, row["unit"], self._worker, pickle.loads(row["work"]))
                for row in batch.to_pylist()]
        for row in rows:
            if "error" not in row:
                count_for_prometheus(self._name, {"units": 1, "tokens": row.get("num_tokens", 0)})
        return pa.Table.from_pylist(rows)


_LOOK_S = 5.0  # between looks at the nodes
_kept: dict[str, _UnitRunner] = {}


def _run_in_task(batch: pa.Table, key: str, **keywords: Any) -> pa.Table:
    """Run a unit in a plain task: Ray reuses its processes for later tasks, so a worker is loaded once in each."""
    if key not in _kept:
        _kept.clear()  # one at a time: a worker may hold a model
        _kept[key] = _UnitRunner(**keywords)
    return _kept[key](batch)


@contextlib.contextmanager
def ray_passes(
    name: str, worker: Callable[..., Worker], arguments: dict[str, Any], resources: ResourcesConfig, *,
    actors: bool, gpu: bool,
) -> Iterator[Callable[[Mapping[int, Any]], Iterator[Mapping[str, Any]]]]:
    """Give what does numbered units once and yields their rows as they come, for `work_units.run_units`."""
    keywords = {"worker": worker, "arguments": arguments, "name": name, "key": uuid.uuid4().hex}
    with counted_attempts() as count:
        yield lambda units: _unless_stuck(
            name, _dataset({**keywords, "count": count}, units, resources, actors=actors, gpu=gpu))


def _unless_stuck(name: str, dataset: "ray.data.Dataset") -> Iterator[Mapping[str, Any]]:
    """Yield the rows; InputError where none comes any more."""
    try:
        yield from dataset.iter_rows()
    except ExecutionTimeoutError as error:
        raise InputError(f"{name}: {STUCK}") from error


def _dataset(
    keywords: dict[str, Any], units: Mapping[int, Any], resources: ResourcesConfig, *, actors: bool, gpu: bool
) -> "ray.data.Dataset":
    """Return the lazy dataset whose rows are what the workers return."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A pool grows when all of its workers are busy. Set before the dataset is made, which takes a copy.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    on_gpu = gpu and resources.use_gpu
    max_processes = min(len(units), resources.num_scoring_workers or len(units))
    # One block for each unit makes one task of it. The pickles are our own, made and read within this run.
    blocks = [pa.table({"unit": [number], "work": [pickle.dumps(unit)]}) for number, unit in units.items()]
    dataset: ray.data.Dataset = ray.data.from_arrow(blocks)
    # Where there is no node for a while, that is bounded by itself.
    dataset.context.execution_no_progress_timeout_s = STUCK_S + resources.wait_timeout_s
    taken: Bundle = {"CPU": 1, "GPU": 1} if on_gpu else {"CPU": 1}
    watch = _node_watch(keywords["name"], taken, resources.wait_timeout_s)
    dataset.context.custom_execution_callback_classes = [watch]
    shape: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": 1}
    if actors or on_gpu:
        # One task at a time: a second one waiting at a busy worker is lost to the idle one beside it. The pool starts
        # with what the cluster has room for and grows with it.
        num_first = max(1, min(max_processes, num_fitting(taken)))
        pool = ActorPoolStrategy(min_size=1, max_size=max_processes, initial_size=num_first,
                                 max_tasks_in_flight_per_actor=1)
        gpus = 1 if on_gpu else None
        made_with = {name: value for name, value in keywords.items() if name != "key"}
        return dataset.map_batches(_UnitRunner, fn_constructor_kwargs=made_with, compute=pool, num_gpus=gpus, **shape)
    tasks, in_task = TaskPoolStrategy(max_processes), cast(Any, _run_in_task)
    return dataset.map_batches(in_task, fn_kwargs=keywords, compute=tasks, **shape)


def _node_watch(name: str, taken: Bundle, timeout_s: float) -> type[ExecutionCallback]:
    """Return what Ray Data calls at each step: where no node is left for the work, the wait is reported and bounded."""

    class NodeWatch(ExecutionCallback):
        def __init__(self) -> None:
            self._waiting, self._looked = Waiting(name, [taken], timeout_s), time.monotonic()

        def on_execution_step(self, executor: Any) -> None:
            if time.monotonic() - self._looked < _LOOK_S:
                return
            self._looked = time.monotonic()
            if num_fitting(taken):
                self._waiting.restart()
            else:
                self._waiting.report()

    return NodeWatch
