"""One supervised fine-tuning with Ray Train: DDP for the proxy, DeepSpeed for the target, the same function."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import ray
import ray.data
from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from s2l_ray.config import ResourcesConfig
from s2l_ray.errors import InputError
from s2l_ray.execution.cluster import worker_needs
from s2l_ray.execution.process_group import ByNodeAddress
from s2l_ray.modeling.schedule import TrainingRun
from s2l_ray.progress import clock, note, task
from s2l_ray.training_config import TargetConfig

_RESUME = "resume"
_SAY_WAITING_S = 20.0
_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"


def train(run: TrainingRun, examples: "ray.data.Dataset", resources: ResourcesConfig) -> dict[str, Any]:
    """Fine-tune and return {"history": [...]} of rank 0; the model lies in `<folder>/model` then.

    Resumes from the newest checkpoint below `<folder>/resume...`, where an earlier run left one.
    """
    # Materialised: a lazy read would need a free CPU while the training workers hold them all, and hang.
    examples = examples.select_columns(["example_id", "input_ids", "supervised"]).materialize()
    environment = {"OMP_NUM_THREADS": str(resources.cpus_per_worker), "TOKENIZERS_PARALLELISM": "false"}
    if not resources.use_gpu:
        environment["DS_ACCELERATOR"] = "cpu"
    # Train gives a group of workers 60 s to start, too short for a cloud node to boot.
    os.environ[_START_TIMEOUT] = str(resources.wait_timeout_s)
    board = _Board.options(num_cpus=0).remote()  # type: ignore[attr-defined]
    trainer = TorchTrainer(
        _train_fn_per_worker,  # type: ignore[arg-type]
        train_loop_config={"run": run, "board": board},
        torch_config=ByNodeAddress(backend="nccl" if resources.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.num_workers,
            use_gpu=resources.use_gpu,
            resources_per_worker={"CPU": resources.cpus_per_worker, **({"GPU": 1} if resources.use_gpu else {})},
        ),
        run_config=RunConfig(  # type: ignore[call-arg]
            name=_resume_name(run, resources),
            storage_path=run.storage.path(run.folder),
            storage_filesystem=run.storage.filesystem,
            failure_config=FailureConfig(  # type: ignore[call-arg]
                max_failures=resources.max_failures, controller_failure_limit=0
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            worker_runtime_env={"env_vars": environment},
        ),
        datasets={"train": examples},
        # Unsplit: an even split drops rows silently, and each worker samples from the whole table by index anyway.
        dataset_config=DataConfig(datasets_to_split=[]),
    )
    with _watch(run, board, resources), _interruptible():
        result = trainer.fit()
    outcome = result.return_value  # type: ignore[attr-defined]
    assert isinstance(outcome, dict), "rank 0 returns the outcome"
    if "input_error" in outcome:
        raise InputError(outcome["input_error"])
    for name in run.storage.list_names(run.folder):
        if name.startswith(_RESUME):
            run.storage.delete_folder(f"{run.folder}/{name}")
    return outcome


def _resume_name(run: TrainingRun, resources: ResourcesConfig) -> str:
    """Return the folder of resume checkpoints: DeepSpeed's fit the number of workers that wrote them and no other."""
    return f"{_RESUME}-{resources.num_workers}-workers" if isinstance(run.config, TargetConfig) else _RESUME


def _train_fn_per_worker(loop_config: dict[str, Any]) -> dict[str, Any]:
    # Imported here: Ray's controller and data actors load this module too, and need not wait for torch.
    from s2l_ray.execution.train_worker import fine_tune

    try:
        return fine_tune(loop_config["run"], loop_config["board"])
    except InputError as error:  # the user's to mend: raised here, Ray Train would start the workers again
        return {"input_error": str(error)}


@ray.remote
class _Board:
    """Where rank 0 leaves how far it is, for the driver to show; step -1 until it has started."""

    def __init__(self) -> None:
        self._step, self._facts = -1, {}  # type: ignore[var-annotated]

    def tell(self, step: int, facts: dict[str, float]) -> None:
        self._step, self._facts = step, facts

    def read(self) -> tuple[int, dict[str, float]]:
        return self._step, self._facts


def waiting_for(resources: ResourcesConfig) -> str:
    """Return what a group of training workers needs and how much of it is free now, in words."""
    need, free = worker_needs(resources), ray.available_resources()
    wanted = " and ".join(f"{amount} {name}s (free {free.get(name, 0):g})" for name, amount in need.items())
    return f"waiting for {wanted}"


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
def _watch(run: TrainingRun, board: Any, resources: ResourcesConfig) -> Iterator[None]:
    """Show the board's state while the block runs, and what is waited for before there is any."""
    ended = threading.Event()

    def follow() -> None:
        started = said = time.monotonic()
        with task(run.name, run.plan.total_steps, "steps") as progress:
            while not ended.wait(0.5):
                step, facts = ray.get(board.read.remote())
                if step >= 0:
                    progress.update(step, facts)
                elif time.monotonic() - said >= _SAY_WAITING_S:
                    said = time.monotonic()
                    note(f"{run.name}: {waiting_for(resources)}, {clock(said - started)}")

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        ray.kill(board)
