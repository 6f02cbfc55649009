"""One supervised fine-tuning by processes of this machine."""

import os
import uuid
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2l_ray.execution.interfaces import name_interface
from s2l_ray.execution.local.checkpoints import newest
from s2l_ray.execution.local.machine import Machine
from s2l_ray.execution.local.process import CallError
from s2l_ray.execution.local.worker import RESULT
from s2l_ray.modeling.schedule import TrainingRun
from s2l_ray.progress.bars import Task, task
from s2l_ray.progress.notes import note
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.storage.artifacts import Artifact

_LOOPBACK = "127.0.0.1"


class _LostError(Exception):
    """A worker died or failed."""


def train_here(
    machine: Machine, run: TrainingRun, examples: Artifact, selected: pa.Array | None, resume_name: str,
    resources: ResourcesConfig,
) -> dict[str, Any]:
    """Train, going on from the newest checkpoint where workers were lost, and return what rank 0 does.

    Raises
    ------
    InputError
        A worker found something that the user has to fix.
    RuntimeError
        Workers were lost more than `resources.max_failures` times.
    """
    num_workers = _num_workers(machine, resources)
    work = {"run": run, "examples": examples, "selected": selected, "resume_name": resume_name}
    with task(run.name, run.plan.total_steps, "steps") as progress:
        for num_lost in range(resources.max_failures + 1):
            checkpoint = newest(run.storage, f"{run.folder}/{resume_name}")
            try:
                return _fit(machine, num_workers, {**work, "checkpoint": checkpoint}, resources, progress)
            except _LostError as error:
                if num_lost == resources.max_failures:
                    raise RuntimeError(f"{run.name}: {error}. The newest checkpoint is kept: fix the cause and run "
                                       "again") from error
                note(f"{run.name}: {error}; going on from the newest checkpoint")
    raise AssertionError("the loop returns or raises")


def _num_workers(machine: Machine, resources: ResourcesConfig) -> int:
    """Return the recipe's number of workers; of a range, as many as there are cores for."""
    fit = machine.num_cores // resources.cpus_per_worker
    return max(resources.min_workers, min(resources.max_workers, fit))


def _fit(
    machine: Machine, num_workers: int, work: dict[str, Any], resources: ResourcesConfig, progress: Task
) -> dict[str, Any]:
    """Train with this many workers and return what rank 0 does."""
    meeting = str(machine.folder / f"meeting-{uuid.uuid4().hex}")
    environment = {"OMP_NUM_THREADS": str(resources.cpus_per_worker)}
    with machine.processes(num_workers, environment) as processes:
        for rank, process in enumerate(processes):
            process.call(_work, reports=True, rank=rank, num_workers=num_workers, meeting=meeting, **work)
        ranks: dict[Connection, int] = {process.connection: rank for rank, process in enumerate(processes)}
        outcomes: dict[int, dict[str, Any]] = {}
        while ranks:
            for connection in wait(list(ranks)):
                assert isinstance(connection, Connection)
                rank = ranks[connection]
                try:
                    kind, found = processes[rank].receive()
                except CallError as error:
                    raise _LostError(f"worker {rank}: {error}") from error
                if kind == RESULT:
                    outcomes[rank] = found
                    del ranks[connection]
                elif rank == 0 and isinstance(found, str):
                    note(found)
                elif rank == 0:
                    progress.update(*found)
    return outcomes[0]


def _work(
    report: Callable[[Any], None], *, rank: int, num_workers: int, meeting: str, run: TrainingRun, examples: Artifact,
    selected: pa.Array | None, resume_name: str, checkpoint: str | None,
) -> dict[str, Any]:
    """Be a worker of the group: what Ray Train sets up for one, then the training."""
    import torch  # heavy: the driver loads this module too

    from s2l_ray.execution.local.host import LocalHost  # heavy: transformers, as the next
    from s2l_ray.execution.train_worker import fine_tune

    # As torchrun names them. Nobody listens at the port: the group meets at a file.
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_workers), NODE_RANK="0",
                      LOCAL_WORLD_SIZE=str(num_workers), MASTER_ADDR=_LOOPBACK, MASTER_PORT="29500")
    name_interface(_LOOPBACK)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=num_workers)
    try:
        shared = Path(f"{meeting}.arrow")
        return fine_tune(run, LocalHost(run, examples, selected, resume_name, checkpoint, report, shared))
    finally:
        torch.distributed.destroy_process_group()
