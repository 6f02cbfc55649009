"""One supervised fine-tuning with Ray Train: DDP for the proxy, DeepSpeed for the target, the same function."""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ray
import ray.data
import ray.train
from ray.exceptions import RayActorError
from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from s2l_ray.artifacts import Artifact
from s2l_ray.config import ResourcesConfig
from s2l_ray.errors import InputError
from s2l_ray.execution.placement import on_this_node
from s2l_ray.execution.process_group import ByNodeAddress
from s2l_ray.execution.room import Waiting, asking_for, training_bundles, workers_in_range
from s2l_ray.modeling.schedule import TrainingRun
from s2l_ray.progress import note, task
from s2l_ray.training_config import TargetConfig

_RESUME = "resume"
_SAY_WAITING_S = 20.0
_SETTLED_S = 60.0
_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"


def train(run: TrainingRun, examples: "ray.data.Dataset", resources: ResourcesConfig) -> dict[str, Any]:
    """Fine-tune and return rank 0's {"history", "num_workers_used"}; the model lies in `<folder>/model` then.

    Resumes from the newest checkpoint below `<folder>/resume...`, where an earlier run left one. Where the recipe
    gives a range of workers, the proxy takes as many as there is room for: fewer after a loss, more when nodes come.

    Raises
    ------
    InputError
        A worker found something that the user has to mend, or there was no room in time.
    """
    # Materialised: a lazy read would need a free CPU while the training workers hold them all, and hang.
    outcome = _to_its_end(run, examples.materialize(), resources)
    if "input_error" in outcome:
        raise InputError(outcome["input_error"])
    for name in run.storage.list_names(run.folder):
        if name.startswith(_RESUME):
            run.storage.delete_folder(f"{run.folder}/{name}")
    return outcome


def _to_its_end(run: TrainingRun, examples: "ray.data.Dataset", resources: ResourcesConfig) -> dict[str, Any]:
    """Train, and go on from the newest checkpoint where workers were lost or more of them found room."""
    is_elastic = isinstance(resources.num_workers, tuple) and not isinstance(run.config, TargetConfig)
    num_lost, num_workers = 0, resources.least_workers
    for attempt in itertools.count():
        if is_elastic:
            num_workers = workers_in_range(run.name, resources, wait_for_most=attempt == 0)
        try:
            outcome = _fit(run, examples, resources, num_workers, is_elastic=is_elastic)
        except (TrainingFailedError, RayActorError) as error:
            # Train starts workers again itself, in the same number; not so its controller, whose process died here.
            may_go_on = isinstance(error, RayActorError) or (is_elastic and not isinstance(error, ControllerError))
            num_lost += 1
            if not may_go_on or num_lost > resources.max_failures:
                raise RuntimeError(f"{run.name}: {_why(error)}. The newest checkpoint is kept: mend the cause and run "
                                   "again") from error
            note(f"{run.name}: {_why(error)}; going on from the newest checkpoint")
            continue
        if not outcome.get("gave_way"):
            return outcome
        note(f"{run.name}: there is room for more workers than {num_workers}; going on from a checkpoint with them")
    raise AssertionError("counting does not end")


def _fit(
    run: TrainingRun, examples: "ray.data.Dataset", resources: ResourcesConfig, num_workers: int, *, is_elastic: bool
) -> dict[str, Any]:
    """Train with this many workers and return what rank 0 does; Ray Train restarts them where there may be no more."""
    environment = {"OMP_NUM_THREADS": str(resources.cpus_per_worker), "TOKENIZERS_PARALLELISM": "false"}
    if not resources.use_gpu:
        environment["DS_ACCELERATOR"] = "cpu"
    # Train gives a group of workers 60 s to start, too short for a cloud node to boot.
    os.environ[_START_TIMEOUT] = str(resources.wait_timeout_s)
    board = _Board.options(**on_this_node()).remote()  # type: ignore[attr-defined]
    failures = FailureConfig(  # type: ignore[call-arg]
        max_failures=0 if is_elastic else resources.max_failures, controller_failure_limit=0,
        max_preemption_failures=0 if is_elastic else -1,
    )
    trainer = TorchTrainer(
        _train_fn_per_worker,  # type: ignore[arg-type]
        train_loop_config={"run": run, "board": board},
        torch_config=ByNodeAddress(backend="nccl" if resources.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=resources.use_gpu,
            resources_per_worker=dict(training_bundles(resources)[0]),
        ),
        run_config=RunConfig(  # type: ignore[call-arg]
            name=_resume_name(run, resources),
            storage_path=run.storage.path(run.folder),
            storage_filesystem=run.storage.filesystem,
            failure_config=failures,
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            callbacks=[_TellLoss(board)],  # type: ignore[list-item]
            worker_runtime_env={"env_vars": environment},
        ),
        datasets={"train": examples},
        # Unsplit: an even split drops rows silently, and each worker samples from the whole table by index anyway.
        dataset_config=DataConfig(datasets_to_split=[]),
    )
    with contextlib.ExitStack() as beside:
        beside.callback(ray.kill, board)
        beside.enter_context(_beside(partial(_show, run, board, resources)))
        if is_elastic and num_workers < resources.most_workers:
            beside.enter_context(_beside(partial(_give_way_for_more, board, resources)))
        beside.enter_context(_interruptible())
        outcome = trainer.fit().return_value  # type: ignore[attr-defined]
    assert isinstance(outcome, dict), "rank 0 returns the outcome"
    return outcome


def _why(error: Exception) -> str:
    """Return why a training ended, in a line: of several workers, what the first of them said."""
    failures = list(error.worker_failures.values()) if isinstance(error, WorkerGroupError) else [error]
    lines = [line for line in str(failures[0]).splitlines() if line and not line.startswith((" ", "\t", "Traceback"))]
    return f"the training's processes failed: {lines[-1] if lines else type(failures[0]).__name__}"


def check_resumable(artifact: Artifact, resources: ResourcesConfig) -> None:
    """Refuse to go on with a DeepSpeed training in a way that loses it.

    Raises
    ------
    InputError
        Its checkpoints were written by another number of workers, which DeepSpeed cannot load.
    """
    ours = f"{_RESUME}-{resources.least_workers}-workers"
    storage = artifact.storage
    others = [name for name in storage.list_names(artifact.folder) if name.startswith(f"{_RESUME}-") and name != ours]
    for name in others:
        if any(kept.startswith("checkpoint_") for kept in storage.list_names(artifact.file(name))):
            num_workers = name.split("-")[1]
            raise InputError(
                f"{artifact.folder} holds an unfinished training of {num_workers} workers, and resources.num_workers="
                f"{resources.least_workers} cannot go on with DeepSpeed's checkpoints of it: set resources.num_workers="
                f"{num_workers}, or delete {storage.uri_of(artifact.file(name))} to begin it anew"
            )


def _resume_name(run: TrainingRun, resources: ResourcesConfig) -> str:
    """Return the folder of resume checkpoints: DeepSpeed's fit the number of workers that wrote them and no other."""
    return f"{_RESUME}-{resources.least_workers}-workers" if isinstance(run.config, TargetConfig) else _RESUME


def _train_fn_per_worker(loop_config: dict[str, Any]) -> dict[str, Any]:
    # Imported here: Ray's controller and data actors load this module too, and need not wait for torch.
    from s2l_ray.execution.train_worker import fine_tune

    try:
        return fine_tune(loop_config["run"], loop_config["board"])
    except InputError as error:  # the user's to mend: raised here, Ray Train would start the workers again
        return {"input_error": str(error)}


@ray.remote
class _Board:
    """Where rank 0 leaves how far it is, for the driver to show, and reads whether it should give way.

    The step is -1 until it has started.
    """

    def __init__(self) -> None:
        self._step, self._facts = -1, {}  # type: ignore[var-annotated]
        self._gives_way = False

    def tell(self, step: int, facts: dict[str, float]) -> None:
        self._step, self._facts = step, facts

    def read(self) -> tuple[int, dict[str, float]]:
        return self._step, self._facts

    def give_way(self) -> None:
        self._gives_way = True

    def gives_way(self) -> bool:
        return self._gives_way


class _TellLoss(UserCallback):
    """Tells the board, from Train's controller, that workers were lost and others are waited for."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_exception(self, run_context: Any, worker_exceptions: Any) -> None:
        self._board.tell.remote(-1, {})


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


@contextlib.contextmanager
def _beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run the work in a thread while the block runs; the event it is given is set when the block ends."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _give_way_for_more(board: Any, resources: ResourcesConfig, ended: threading.Event) -> None:
    """Ask the cluster for room for one more worker, and have the training give way to a larger one when it comes.

    Not at once: a training that has just started does not start again, whatever comes and goes.
    """
    if ended.wait(_SETTLED_S):
        return
    with asking_for(training_bundles(resources)[:1]) as group:
        while not group.wait(timeout_seconds=1):
            if ended.is_set():
                return
    board.give_way.remote()


def _show(run: TrainingRun, board: Any, resources: ResourcesConfig, ended: threading.Event) -> None:
    """Show what stands on the board, and what is waited for where no worker has started."""
    waiting = Waiting(run.name, training_bundles(resources), first_say_s=_SAY_WAITING_S)
    with task(run.name, run.plan.total_steps, "steps") as progress:
        while not ended.wait(0.5):
            step, facts = ray.get(board.read.remote())
            if step >= 0:
                progress.update(step, facts)
                waiting.begin()
            else:
                waiting.go_on()
