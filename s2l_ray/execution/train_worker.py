"""What each training worker does: load, train with checkpoints and points going to the storage, save."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
import ray.train
import torch
from ray.train import Checkpoint
from ray.train.collective import broadcast_from_rank_zero
from transformers import PreTrainedModel, TrainerCallback

from s2l_ray.modeling.batching import ExampleTable
from s2l_ray.modeling.memory import keep_freed_memory
from s2l_ray.modeling.models import load_model, load_tokenizer, pad_token_id, save_weights
from s2l_ray.modeling.schedule import TrainingRun, TrajectoryPoint
from s2l_ray.modeling.training import (
    Collator,
    PointCallback,
    ProgressCallback,
    build_trainer,
    disable_deepspeed_compiler,
    training_arguments,
)

_WORKERS = "num_workers"
_ASK_EVERY_S = 3.0


def fine_tune(run: TrainingRun, progress: Any) -> dict[str, Any]:
    """Train on this worker's share of every step; rank 0 uploads points, checkpoints and the finished model."""
    progress.report.remote(0, {})
    keep_freed_memory()
    torch.set_num_threads(run.cpus_per_worker)
    if run.config.zero and not run.use_gpu:
        disable_deepspeed_compiler()
    examples = _examples_of(ray.train.get_dataset_shard("train"))
    tokenizer = load_tokenizer(run.config.model)
    with tempfile.TemporaryDirectory(prefix="s2l-train-") as scratch:
        num_workers = ray.train.get_context().get_world_size()
        arguments = training_arguments(
            run.config, run.plan, num_workers=num_workers, output_dir=Path(scratch), seed=run.seed, use_gpu=run.use_gpu
        )
        model = load_model(run.config.model, vocab_size=len(tokenizer), seed=run.seed)
        collator = Collator(pad_token_id(tokenizer))
        leaving = _SaveBeforeLeaving(progress)
        callbacks: list[TrainerCallback] = [
            PointCallback(run.plan.points, lambda m, point: _upload_point(run, m, point)),
            ProgressCallback(progress.report.remote, collator),
            _RememberWorkers(),
            leaving,
            _ReportCheckpoint(),
        ]
        trainer = build_trainer(model, arguments, examples, collator, callbacks)
        resume = ray.train.get_checkpoint()
        if resume is None:
            trainer.train()
        else:
            with resume.as_directory() as folder:
                trainer.resume(Path(folder))
        if leaving.stops_for_resize:
            return {"resize": True}
        assert trainer.state.global_step == run.plan.total_steps, "nothing else ends a training early"
        finished = Path(scratch) / "finished"
        trainer.save_model(str(finished))  # collective under ZeRO-3; rank 0 writes
        if trainer.is_world_process_zero():
            (finished / "training_args.bin").unlink(missing_ok=True)  # a pickle; the manifest has the config
            tokenizer.save_pretrained(finished)
            run.storage.upload_folder(finished, f"{run.folder}/model")
    history = trainer.state.log_history
    return {"history": [entry for entry in history if _WORKERS not in entry],
            "num_workers_used": [entry[_WORKERS] for entry in history if _WORKERS in entry]}


def _examples_of(shard: "ray.data.DataIterator") -> ExampleTable:
    """Return the training examples, ordered by id so that shuffling depends on the seed alone.

    Whole blocks come as Arrow tables that share the node's object store: nothing is copied per worker.
    """
    blocks = list(shard.iter_batches(batch_size=None, batch_format="pyarrow"))  # type: ignore[arg-type]
    table = pa.concat_tables(blocks)
    order = pc.sort_indices(table["example_id"])
    return ExampleTable(table, np.asarray(order))


def _upload_point(run: TrainingRun, model: PreTrainedModel, point: TrajectoryPoint) -> None:
    with tempfile.TemporaryDirectory(prefix="s2l-point-") as scratch:
        save_weights(model, Path(scratch))
        run.storage.upload_folder(Path(scratch), f"{run.folder}/{point.folder}")


class _RememberWorkers(TrainerCallback):
    """Notes in the history, which goes with every checkpoint, when another number of workers goes on."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        before = [entry[_WORKERS] for entry in state.log_history if _WORKERS in entry]
        if before[-1:] != [args.world_size]:
            state.log_history.append({"step": state.global_step, _WORKERS: args.world_size})


class _SaveBeforeLeaving(TrainerCallback):
    """Has a checkpoint written when a node is about to be taken away, or more workers are to go on from here.

    To ask is a barrier of all workers, so they agree on the step to ask at next: about every `_ASK_EVERY_S` seconds.
    """

    def __init__(self, progress: Any) -> None:
        self._progress, self.stops_for_resize = progress, False
        self._saved: frozenset[str] = frozenset()
        self._ask_at, self._asked = 1, time.monotonic()
        self._asked_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._asked, self._asked_step, self._ask_at = time.monotonic(), state.global_step, state.global_step + 1

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step < self._ask_at or state.global_step >= state.max_steps:
            return
        info = ray.train.get_preemption_info()
        leaving = frozenset(info.preempted_node_to_ranks) if info else frozenset[str]()
        now = time.monotonic()
        step_s = (now - self._asked) / (state.global_step - self._asked_step)
        self._asked, self._asked_step = now, state.global_step
        ask_at = state.global_step + max(1, int(_ASK_EVERY_S / max(step_s, 1e-3)))
        min_left_s = ray.get(self._progress.resize_requested.remote()) if state.is_world_process_zero else None
        is_worth_it = min_left_s is not None and step_s * (state.max_steps - state.global_step) > min_left_s
        self._ask_at, self.stops_for_resize = broadcast_from_rank_zero((ask_at, is_worth_it))
        if self.stops_for_resize or leaving - self._saved:
            control.should_save = True
        if self.stops_for_resize:
            control.should_training_stop = True
        self._saved |= leaving


class _ReportCheckpoint(TrainerCallback):
    """Hands each resume checkpoint to Ray Train; every rank brings the files it wrote, Ray merges them."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        folder.mkdir(exist_ok=True)
        ray.train.report({"step": state.global_step}, checkpoint=Checkpoint.from_directory(str(folder)))
        shutil.rmtree(folder)
