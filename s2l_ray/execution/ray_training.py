"""One supervised fine-tuning with Ray Train, across nodes."""

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import ray
import ray.data
import ray.train
from ray.exceptions import RayActorError
from ray.train import CheckpointConfig, DataConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, TrainingFailedError, WorkerGroupError

from s2l_ray.errors import InputError
from s2l_ray.execution.bundles import training_bundles
from s2l_ray.execution.capacity import remove_abandoned_groups, workers_in_range
from s2l_ray.execution.placement import on_this_node
from s2l_ray.execution.process_group import ByNodeAddress
from s2l_ray.execution.ray_internals import checkpoints_record, failure_config, is_start_failure, set_train_times
from s2l_ray.execution.training_progress import (
    SETTLED_S,
    ReportLostWorkers,
    TrainingProgress,
    request_resize,
    running_beside,
    show,
)
from s2l_ray.modeling.schedule import TrainingRun
from s2l_ray.progress.notes import note
from s2l_ray.recipe.resources import ResourcesConfig

_POLL_S = 0.5


def train_with_ray(
    run: TrainingRun, dataset: "ray.data.Dataset", resume_name: str, resources: ResourcesConfig
) -> dict[str, Any]:
    """Train, and go on from the newest checkpoint where workers were lost or more of them found room.

    Where the recipe gives a range of workers, it takes as many as there is room for: fewer after a loss, more when
    nodes come. Returns what rank 0 does; checkpoints lie in `<folder>/<resume_name>`.
    """
    # Materialised: a lazy read would need a free CPU while the training workers hold them all, and hang.
    examples = dataset.materialize()
    is_elastic = isinstance(resources.num_workers, tuple)
    num_workers = resources.min_workers
    if is_elastic:
        num_workers = workers_in_range(run.name, resources, wait_for_max=True)
    num_lost, settled_s = 0, SETTLED_S
    while True:
        try:
            outcome = _fit(run, examples, resume_name, resources, num_workers, settled_s if is_elastic else None)
        except (TrainingFailedError, RayActorError) as error:
            num_lost += not isinstance(error, PreemptionError)
            if not _may_go_on(error, is_elastic=is_elastic) or num_lost > resources.max_failures:
                raise RuntimeError(f"{run.name}: {_why(error)}. The newest checkpoint is kept: fix the cause and run "
                                   "again") from error
            remove_abandoned_groups()
            note(f"{run.name}: {_why(error)}; going on from the newest checkpoint")
        else:
            if "input_error" in outcome:
                raise InputError(outcome["input_error"])
            if "resize" not in outcome:
                return outcome
            note(f"{run.name}: there is room for more workers than {num_workers}; going on from a checkpoint with them")
        if is_elastic:
            before, num_workers = num_workers, workers_in_range(run.name, resources, wait_for_max=False)
            # Room that somebody else is quicker to take is not believed in as soon the next time.
            settled_s = SETTLED_S if num_workers > before else 2 * settled_s


def _may_go_on(error: Exception, *, is_elastic: bool) -> bool:
    """Tell whether to start again here: Train itself starts lost workers again, in the same number, and no controller.

    Nor does it where a node is lost while the workers start, or with an actor of the controller's on it.
    """
    if isinstance(error, RayActorError):  # of the controller: its process died
        return True
    cause = error.controller_failure if isinstance(error, ControllerError) else None
    if cause is None:
        return is_elastic
    return isinstance(cause, RayActorError) or is_start_failure(cause, for_want_of_room=is_elastic)


def _fit(
    run: TrainingRun, examples: "ray.data.Dataset", resume_name: str, resources: ResourcesConfig, num_workers: int,
    settled_s: float | None,
) -> dict[str, Any]:
    """Train with this many workers and return what rank 0 does.

    Where `settled_s` is None, Ray Train restarts lost workers in this number; else it leaves that to us, and the
    training stops for one with more workers when it has run for so long and there is capacity for them.
    """
    is_elastic = settled_s is not None
    _drop_broken_record(run, resume_name)
    environment = {"OMP_NUM_THREADS": str(resources.cpus_per_worker), "TOKENIZERS_PARALLELISM": "false"}
    if not resources.use_gpu:
        environment["DS_ACCELERATOR"] = "cpu"
    set_train_times(resources.wait_timeout_s, _POLL_S)  # 60 s to start otherwise, too short for a cloud node to boot
    progress = TrainingProgress.options(**on_this_node()).remote()  # type: ignore[attr-defined]
    failures = failure_config(0 if is_elastic else resources.max_failures, 0 if is_elastic else -1)
    trainer = TorchTrainer(
        _train_fn_per_worker,  # type: ignore[arg-type]
        train_loop_config={"run": run, "progress": progress},
        torch_config=ByNodeAddress(backend="nccl" if resources.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=resources.use_gpu,
            resources_per_worker=dict(training_bundles(resources)[0]),
        ),
        run_config=RunConfig(  # type: ignore[call-arg]
            name=resume_name,
            storage_path=run.storage.path(run.folder),
            storage_filesystem=run.storage.filesystem,
            failure_config=failures,
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            callbacks=[ReportLostWorkers(progress)],  # type: ignore[list-item]
            worker_runtime_env={"env_vars": environment},
        ),
        datasets={"train": examples},
        # Unsplit: an even split drops rows silently, and each worker samples from the whole table by index anyway.
        dataset_config=DataConfig(datasets_to_split=[]),
    )
    with contextlib.ExitStack() as beside:
        beside.callback(ray.kill, progress)
        beside.enter_context(running_beside(partial(show, progress, run, resources)))
        if settled_s is not None and num_workers < resources.max_workers:
            num_missing = resources.max_workers - num_workers
            resize = partial(request_resize, progress, run, resources, num_missing, settled_s)
            beside.enter_context(running_beside(resize))
        beside.enter_context(_interruptible())
        outcome = trainer.fit().return_value  # type: ignore[attr-defined]
    assert isinstance(outcome, dict), "rank 0 returns the outcome"
    return outcome


def _drop_broken_record(run: TrainingRun, resume_name: str) -> None:
    """Let the training begin anew where what Ray Train wrote of its checkpoints was cut off, as by a full disk."""
    record = f"{run.folder}/{resume_name}/{checkpoints_record()}"
    if not run.storage.exists(record):
        return
    try:
        json.loads(run.storage.read_bytes(record))
    except ValueError:
        note(f"{run.name}: the list of its checkpoints was cut off, as by a full disk: it begins anew")
        run.storage.delete_folder(f"{run.folder}/{resume_name}")


def _why(error: Exception) -> str:
    """Return why a training ended, in a line: of several workers, what the first of them said."""
    failures = list(error.worker_failures.values()) if isinstance(error, WorkerGroupError) else [error]
    lines = [line for line in str(failures[0]).splitlines() if line and not line.startswith((" ", "\t", "Traceback"))]
    return f"the training's processes failed: {lines[-1] if lines else type(failures[0]).__name__}"


def _train_fn_per_worker(loop_config: dict[str, Any]) -> dict[str, Any]:
    # Imported here: Ray's controller and data actors load this module too, and need not wait for torch.
    from s2l_ray.execution.ray_host import RayHost
    from s2l_ray.execution.train_worker import fine_tune

    try:
        return fine_tune(loop_config["run"], RayHost(loop_config["progress"]))
    except InputError as error:  # the user's to fix: raised here, Ray Train would start the workers again
        return {"input_error": str(error)}


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the block as KeyboardInterrupt: Train's own handler exits the process, and stays after `fit`."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
