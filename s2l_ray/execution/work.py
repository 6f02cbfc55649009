"""Run units of work on all cores or GPUs through Ray Data: each unit alone is retried, and results stream back."""

import pickle
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

from s2l_ray.config import ResourcesConfig
from s2l_ray.execution.metrics import count_for_prometheus
from s2l_ray.progress import task


class Worker(Protocol):
    """What does the work: loads what it needs once, then does one unit at a time."""

    def run(self, unit: Any) -> Mapping[str, Any]:
        """Do one unit and return a small row of plain values about it."""
        ...


class _UnitRunner:
    """What Ray Data calls: takes a unit out of its row and runs it."""

    def __init__(self, worker: type, arguments: dict[str, Any], name: str) -> None:
        self._worker, self._name = worker(**arguments), name

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = [{"unit": row["unit"], **self._worker.run(pickle.loads(row["work"]))} for row in batch.to_pylist()]
        for row in rows:
            count_for_prometheus(self._name, {"units": 1, "tokens": row.get("num_tokens", 0)})
        return pa.Table.from_pylist(rows)


_kept: dict[str, _UnitRunner] = {}


def _run_in_task(batch: pa.Table, worker: type, arguments: dict[str, Any], name: str, key: str) -> pa.Table:
    """Run a unit in a plain task: Ray reuses its processes for later tasks, so a worker is loaded once in each."""
    if key not in _kept:
        _kept.clear()  # one at a time: a worker may hold a model
        _kept[key] = _UnitRunner(worker, arguments, name)
    return _kept[key](batch)


def run_units(
    name: str,
    worker: type,
    arguments: Mapping[str, Any],
    units: Sequence[Any],
    resources: ResourcesConfig,
    *,
    actors: bool = False,
    gpu: bool = False,
    unit_name: str = "shards",
) -> list[dict[str, Any]]:
    """Run every unit with a `worker` in each of a pool of processes; return their rows in the order of the units.

    A unit whose process dies is run again in another; an exception in a unit ends the whole with that exception.
    The number of processes follows the cluster and never changes what a unit computes.

    Parameters
    ----------
    name
        What people see beside the progress.
    arguments
        Keyword arguments of `worker`, sent to each process.
    units
        Picklable descriptions of the work.
    actors
        Whether workers live in actors of their own, for long work with much to load. Otherwise they run in tasks,
        whose processes serve later stages too: starting one takes longer than many a small unit.
    gpu
        Whether a worker takes a GPU (with `resources.use_gpu`); it then lives in an actor.
    """
    if not units:
        return []
    keywords = {"worker": worker, "arguments": dict(arguments), "name": name}
    dataset = _dataset(keywords, units, resources, actors=actors, gpu=gpu)
    rows: list[dict[str, Any]] = []
    started, num_tokens = time.monotonic(), 0
    with task(name, len(units), unit_name) as progress:
        for row in dataset.iter_rows():
            rows.append(dict(row))
            num_tokens += row.get("num_tokens", 0)
            speed = {"tokens/s": num_tokens / (time.monotonic() - started)} if num_tokens else None
            progress.update(len(rows), speed)
    rows.sort(key=lambda row: row["unit"])
    done = [row["unit"] for row in rows]
    if done != list(range(len(units))):
        raise RuntimeError(f"{name}: {len(units)} units were given, {len(done)} came back; nothing was published")
    return rows


def _dataset(
    keywords: dict[str, Any], units: Sequence[Any], resources: ResourcesConfig, *, actors: bool, gpu: bool
) -> "ray.data.Dataset":
    """Return the lazy dataset whose rows are what the workers return."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0  # before a dataset is made: it keeps a copy
    on_gpu = gpu and resources.use_gpu
    most = min(len(units), resources.num_scoring_workers or len(units))
    size = _fitting(on_gpu, most)
    # One block for each unit makes one task of it. The pickles are our own, made and read within this run.
    blocks = [pa.table({"unit": [number], "work": [pickle.dumps(unit)]}) for number, unit in enumerate(units)]
    dataset: ray.data.Dataset = ray.data.from_arrow(blocks)
    shape: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": 1}
    if actors or on_gpu:
        # One task at a time: a second one waiting at a busy worker is lost to the idle one beside it. The pool starts
        # with what the cluster has room for and grows with it, when all of its workers are busy.
        pool = ActorPoolStrategy(min_size=1, max_size=most, initial_size=size, max_tasks_in_flight_per_actor=1)
        gpus = 1 if on_gpu else None
        return dataset.map_batches(_UnitRunner, fn_constructor_kwargs=keywords, compute=pool, num_gpus=gpus, **shape)
    tasks, in_task = TaskPoolStrategy(size), cast(Any, _run_in_task)
    return dataset.map_batches(in_task, fn_kwargs={**keywords, "key": uuid.uuid4().hex}, compute=tasks, **shape)


def _fitting(on_gpu: bool, most: int) -> int:
    """Return how many processes the cluster has room for now: one for each core or GPU, `most` at most."""
    available = ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1)
    return max(1, min(most, int(available)))
