"""What each training worker does: load, train with checkpoints and points going to the storage, save."""

import contextlib
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from s2l_ray.execution.trackers import check_trackers
from s2l_ray.modeling.batching import ExampleTable, padding_multiple
from s2l_ray.modeling.limits import check_ids, check_learned
from s2l_ray.modeling.lora import plain_model
from s2l_ray.modeling.memory import keep_freed_memory
from s2l_ray.modeling.micro_batch import after_out_of_memory, measured_on_gpu
from s2l_ray.modeling.models import finish_folder, load_tokenizer, save_weights
from s2l_ray.modeling.schedule import ORDER_FILE, TrainingRun, TrajectoryPoint
from s2l_ray.modeling.step_losses import STEP_LOSSES, KeepStepLosses, curve_of
from s2l_ray.modeling.trackers import following
from s2l_ray.modeling.training import Collator, PointCallback, ProgressCallback, SupervisedTrainer, build_trainer
from s2l_ray.modeling.training_arguments import disable_deepspeed_compiler, load_for_training, training_arguments
from s2l_ray.modeling.universal import num_writers

_WORKERS = "num_workers"
_MICRO_BATCH = "micro_batch_size.json"


class Host(Protocol):
    """What a training worker has around it, Ray Train's group or this machine's: the process group stands already."""

    num_workers: int

    @property
    def callbacks(self) -> Sequence[TrainerCallback]:
        """Return its own."""
        ...

    @property
    def stops_for_resize(self) -> bool:
        """Tell whether one of them ended the training, to go on from a checkpoint with more workers."""
        ...

    def examples(self) -> list[pa.Table]:
        """Return all training examples, in any order."""
        ...

    def report(self, step: int, facts: dict[str, float]) -> None:
        """Tell the driver how far the training is."""
        ...

    def say(self, text: str) -> None:
        """Have the driver say one thing."""
        ...

    def resume_folder(self) -> contextlib.AbstractContextManager[Path | None]:
        """Give the checkpoint to go on from, as a folder while the block runs; None where there is none."""
        ...

    def keep_checkpoint(self, step: int, folder: Path) -> None:
        """Keep what this worker wrote of a checkpoint; it is one when every worker has kept its part."""
        ...


def fine_tune(run: TrainingRun, host: Host) -> dict[str, Any]:
    """Train on this worker's share of every step; rank 0 uploads points, checkpoints and the finished model.

    Returns {"history", "curve", "num_workers_used", "times"}, or {"resize": True}; the times are of the clock, by
    phase, and the curve is `tables.training_curve`'s.
    """
    times = {"worker": time.time()}
    if run.tracked is not None:
        check_trackers("report_to", run.tracked.trackers, f" of {platform.node()}")
    host.report(0, {})
    if run.config.zero is None or run.config.zero.stage < 3:  # who shards weights is short of memory, not of time
        keep_freed_memory()
    torch.set_num_threads(run.cpus_per_worker)
    if run.config.zero and not run.use_gpu:
        disable_deepspeed_compiler()
    examples = _in_order(host.examples(), run)
    tokenizer = load_tokenizer(run.config.model)
    with tempfile.TemporaryDirectory(prefix="s2l-train-") as scratch:
        arguments, model = _set_up(run, host.num_workers, examples, tokenizer, Path(scratch))
        # Padding is masked, so any id serves; not each tokenizer's own has a vector.
        collator = Collator(0, padding_multiple(arguments.device), packs=run.config.packing)
        callbacks: list[TrainerCallback] = [
            PointCallback(run.plan.points, lambda m, point: _upload_point(run, m, point)),
            ProgressCallback(host.report, collator),
            _RememberWorkers(),
            _NoteFirstStep(times),
            *host.callbacks,
            ending := _EndWhenEnough(run, examples),
            _KeepCheckpoint(host),
        ]
        tracked = run.tracked if arguments.process_index == 0 else None
        with following(tracked, run.storage, Path(scratch), arguments) as follow:
            trainer = build_trainer(model, arguments, examples, collator, callbacks, shuffles=run.config.shuffles)
            trainer.add_callback(KeepStepLosses(trainer))  # after the host's, which ask for checkpoints
            follow(trainer)
            times["model"] = time.time()
            with host.resume_folder() as folder:
                _train(trainer, folder, run, host)
        if host.stops_for_resize:
            return {"resize": True}
        steps = trainer.state.global_step
        assert steps in (run.plan.total_steps, ending.ended_at), "nothing else ends a training early"
        times["trained"] = time.time()
        finished = Path(scratch) / "finished"
        trainer.save_model(str(finished))  # collective under ZeRO-3; rank 0 writes
        if trainer.is_world_process_zero():
            finish_folder(finished, run.config.model)
            tokenizer.save_pretrained(finished)
            run.storage.upload_folder(finished, f"{run.folder}/model")
    times["saved"] = time.time()
    history = trainer.state.log_history
    return {"history": [entry for entry in history if _WORKERS not in entry and STEP_LOSSES not in entry],
            "curve": curve_of(history, steps), "total_steps": steps,
            "micro_batch_size": arguments.per_device_train_batch_size,
            "attention": model.config.get_text_config()._attn_implementation,
            "num_workers_used": [entry[_WORKERS] for entry in history if _WORKERS in entry], "times": times}


def _set_up(
    run: TrainingRun, num_workers: int, examples: ExampleTable, tokenizer: PreTrainedTokenizerBase, scratch: Path
) -> tuple[TrainingArguments, PreTrainedModel]:
    """Return the Trainer's arguments and the model, with the micro-batch that the recipe or the GPU's memory says."""
    config, noted = run.config, f"{run.folder}/{_MICRO_BATCH}"
    make = partial(training_arguments, plan=run.plan, num_workers=num_workers, output_dir=scratch, seed=run.seed,
                   use_gpu=run.use_gpu)
    if config.micro_batch_size == "auto" and run.storage.exists(noted):
        bound = run.storage.read_json(noted)["micro_batch_size"]
        config = config.model_copy(update={"micro_batch_size": config.micro_batch_up_to(bound, num_workers)})
    arguments = make(config)
    model = load_for_training(config, arguments, vocab_size=len(tokenizer), seed=run.seed)
    check_ids(examples.largest_id, model.config.get_text_config().vocab_size, tokenizer)
    if config.lora is not None and not config.lora.save_embeddings:
        layers = plain_model(model).get_input_embeddings(), plain_model(model).get_output_embeddings()
        check_learned(layers, examples.distinct_ids, tokenizer)
    if config.micro_batch_size == "auto" and run.use_gpu and not (config.zero and config.zero.stage == 3):
        found = measured_on_gpu(model, config, num_workers, examples)
        arguments = make(config.model_copy(update={"micro_batch_size": found}))
    return arguments, model


def _train(trainer: SupervisedTrainer, checkpoint: Path | None, run: TrainingRun, host: Host) -> None:
    """Train; where the memory was too small, note a smaller micro-batch for those who go on."""
    before = num_writers(checkpoint) if checkpoint is not None else None
    if before not in (None, host.num_workers) and trainer.is_world_process_zero():
        ours = "1 worker" if host.num_workers == 1 else f"{host.num_workers} workers"
        host.say(f"{run.name}: going on with {ours} from a checkpoint of {before}, converted to a universal checkpoint")
    try:
        if checkpoint is None:
            trainer.train()
        else:
            trainer.resume(checkpoint)
    except torch.OutOfMemoryError as error:
        had = trainer.args.per_device_train_batch_size
        smaller = after_out_of_memory(run.config, host.num_workers, had)
        run.storage.write_json(f"{run.folder}/{_MICRO_BATCH}", {"micro_batch_size": smaller})
        raise RuntimeError(f"out of memory with {had} examples at a time: {smaller} are tried next") from error


def _in_order(tables: list[pa.Table], run: TrainingRun) -> ExampleTable:
    """Return the training examples as the run orders them, else by id so that shuffling depends on the seed alone."""
    table = pa.concat_tables(tables)
    if run.config.shuffles:
        return ExampleTable(table, np.asarray(pc.sort_indices(table["example_id"])))
    asked = run.storage.read_table(f"{run.folder}/{ORDER_FILE}")["example_id"].cast(pa.string())
    places = pc.index_in(asked, value_set=table["example_id"].cast(pa.string()).combine_chunks())
    assert places.null_count == 0 and len(places) == table.num_rows, f"{table.num_rows} examples, {len(asked)} in order"
    return ExampleTable(table, places.to_numpy())


def _upload_point(run: TrainingRun, model: PreTrainedModel, point: TrajectoryPoint) -> None:
    with tempfile.TemporaryDirectory(prefix="s2l-point-") as scratch:
        save_weights(model, Path(scratch))
        finish_folder(Path(scratch), run.config.model)
        run.storage.upload_folder(Path(scratch), f"{run.folder}/{point.folder}")


class _EndWhenEnough(TrainerCallback):
    """Ends the training at a point when the run's watch says so; all processes at the same one.

    No checkpoint is kept of that step: what goes on from an earlier one comes to the same end.
    """

    def __init__(self, run: TrainingRun, examples: ExampleTable) -> None:
        self._run, self._examples = run, examples
        self._points = {point.step: point for point in run.plan.points[:-1] if point.step}
        self.ended_at: int | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        point = self._points.get(state.global_step)
        if self._run.watch is None or point is None:
            return
        is_enough = torch.zeros(1, device=args.device)
        if state.is_world_process_zero and self._run.watch.is_enough(self._run, self._examples, point):
            is_enough += 1
        if args.world_size > 1:
            torch.distributed.broadcast(is_enough, 0)
        if is_enough.item():
            self.ended_at = state.global_step
            control.should_training_stop, control.should_save = True, False


class _RememberWorkers(TrainerCallback):
    """Notes in the history, which goes with every checkpoint, when another number of workers goes on."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        before = [entry[_WORKERS] for entry in state.log_history if _WORKERS in entry]
        if before[-1:] != [args.world_size]:
            state.log_history.append({"step": state.global_step, _WORKERS: args.world_size})


class _NoteFirstStep(TrainerCallback):
    """Notes when the first step had its batch, and when it was done."""

    def __init__(self, times: dict[str, float]) -> None:
        self._times = times

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._times.setdefault("first_batch", time.time())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._times.setdefault("first_step", time.time())


class _KeepCheckpoint(TrainerCallback):
    """Hands each checkpoint's files to the host; every rank brings those that it wrote."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        folder.mkdir(exist_ok=True)
        self._host.keep_checkpoint(state.global_step, folder)
        shutil.rmtree(folder)
