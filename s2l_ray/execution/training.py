"""One supervised fine-tuning with Ray Train: DDP for the proxy, DeepSpeed for the target, the same function."""

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
import ray.train
from ray.train import Checkpoint, CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from transformers import PreTrainedModel, TrainerCallback

from s2l_ray.config import ResourcesConfig, TargetConfig, TrainingConfig
from s2l_ray.errors import InputError
from s2l_ray.modeling.batching import ExampleTable
from s2l_ray.modeling.memory import keep_freed_memory
from s2l_ray.modeling.models import load_model, load_tokenizer, pad_token_id, save_weights
from s2l_ray.modeling.training import (
    Collator,
    PointCallback,
    ProgressCallback,
    TrainingPlan,
    TrajectoryPoint,
    build_trainer,
    disable_deepspeed_compiler,
    training_arguments,
)
from s2l_ray.progress import task
from s2l_ray.storage import Storage

_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"


@dataclass(frozen=True)
class TrainingRun:
    """Everything a worker needs to know; it is sent to each."""

    name: str
    """What people see beside the progress."""
    config: TrainingConfig
    plan: TrainingPlan
    seed: int
    storage: Storage
    folder: str
    """The artifact's folder in the storage: points, the finished model and resume checkpoints go below it."""
    cpus_per_worker: int
    use_gpu: bool


def train(run: TrainingRun, examples: "ray.data.Dataset", resources: ResourcesConfig) -> dict[str, Any]:
    """Fine-tune and return {"history": [...]} of rank 0; the model lies in `<folder>/model` then.

    Resumes from the newest checkpoint below `<folder>/resume`, where an earlier run left one.
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
        _train_fn_per_worker,
        train_loop_config={"run": run, "board": board},
        torch_config=TorchConfig(backend="nccl" if resources.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.num_workers,
            use_gpu=resources.use_gpu,
            resources_per_worker={"CPU": resources.cpus_per_worker, **({"GPU": 1} if resources.use_gpu else {})},
        ),
        run_config=RunConfig(
            name="resume",
            storage_path=run.storage.path(run.folder),
            storage_filesystem=run.storage.filesystem,
            failure_config=FailureConfig(max_failures=resources.max_failures, controller_failure_limit=0),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            worker_runtime_env={"env_vars": environment},
        ),
        datasets={"train": examples},
        # Unsplit: an even split drops rows silently, and each worker samples from the whole table by index anyway.
        dataset_config=DataConfig(datasets_to_split=[]),
    )
    with _watch(run, board):
        result = trainer.fit()
    outcome = result.return_value
    assert isinstance(outcome, dict), "rank 0 returns the outcome"
    if "input_error" in outcome:
        raise InputError(outcome["input_error"])
    run.storage.delete_folder(f"{run.folder}/resume")
    return outcome


def _train_fn_per_worker(loop_config: dict[str, Any]) -> dict[str, Any]:
    try:
        return _train(loop_config["run"], loop_config["board"])
    except InputError as error:  # the user's to mend: raised here, Ray Train would start the workers again
        return {"input_error": str(error)}


def _train(run: TrainingRun, board: Any) -> dict[str, Any]:
    import torch

    keep_freed_memory()
    torch.set_num_threads(run.cpus_per_worker)
    deepspeed = isinstance(run.config, TargetConfig)
    if deepspeed and not run.use_gpu:
        disable_deepspeed_compiler()
    examples = _examples_of(ray.train.get_dataset_shard("train"))
    tokenizer = load_tokenizer(run.config.model)
    with tempfile.TemporaryDirectory(prefix="s2l-train-") as scratch:
        arguments = training_arguments(
            run.config, run.plan, output_dir=Path(scratch), seed=run.seed, use_gpu=run.use_gpu
        )
        model = load_model(run.config.model, vocab_size=len(tokenizer), seed=run.seed)
        collator = Collator(pad_token_id(tokenizer))
        callbacks: list[TrainerCallback] = [
            PointCallback(run.plan.points, lambda m, point: _upload_point(run, m, point)),
            ProgressCallback(lambda step, facts: board.tell.remote(step, facts), collator),
            _ReportCheckpoint(),
        ]
        trainer = build_trainer(model, arguments, examples, collator, callbacks)
        resume = ray.train.get_checkpoint()
        if resume is None:
            trainer.train()
        else:
            with resume.as_directory() as folder:
                trainer.train(resume_from_checkpoint=folder)
        finished = Path(scratch) / "finished"
        trainer.save_model(str(finished))  # collective under ZeRO-3; rank 0 writes
        if trainer.is_world_process_zero():
            (finished / "training_args.bin").unlink(missing_ok=True)  # a pickle; the manifest has the config
            tokenizer.save_pretrained(finished)
            run.storage.upload_folder(finished, f"{run.folder}/model")
    return {"history": trainer.state.log_history}


def _examples_of(shard: "ray.data.DataIterator") -> ExampleTable:
    """Return the training examples, ordered by id so that shuffling depends on the seed alone.

    Whole blocks come as Arrow tables that share the node's object store: nothing is copied per worker.
    """
    blocks = list(shard.iter_batches(batch_size=None, batch_format="pyarrow"))
    table = pa.concat_tables(blocks)
    order = pc.sort_indices(table["example_id"])
    return ExampleTable(table, np.asarray(order))


def _upload_point(run: TrainingRun, model: PreTrainedModel, point: TrajectoryPoint) -> None:
    with tempfile.TemporaryDirectory(prefix="s2l-point-") as scratch:
        save_weights(model, Path(scratch))
        run.storage.upload_folder(Path(scratch), f"{run.folder}/{point.folder}")


class _ReportCheckpoint(TrainerCallback):
    """Hands each resume checkpoint to Ray Train; every rank brings the files it wrote, Ray merges them."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        folder.mkdir(exist_ok=True)
        ray.train.report({"step": state.global_step}, checkpoint=Checkpoint.from_directory(str(folder)))
        shutil.rmtree(folder)


@ray.remote
class _Board:
    """Where rank 0 leaves how far it is, for the driver to show."""

    def __init__(self) -> None:
        self._step, self._facts = 0, {}  # type: ignore[var-annotated]

    def tell(self, step: int, facts: dict[str, float]) -> None:
        self._step, self._facts = step, facts

    def read(self) -> tuple[int, dict[str, float]]:
        return self._step, self._facts


@contextlib.contextmanager
def _watch(run: TrainingRun, board: Any) -> Iterator[None]:
    """Show the board's state while the block runs."""
    ended = threading.Event()

    def follow() -> None:
        with task(run.name, run.plan.total_steps, "steps") as progress:
            while not ended.wait(0.5):
                step, facts = ray.get(board.read.remote())
                progress.update(step, facts)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        ray.kill(board)
