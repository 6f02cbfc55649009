"""A training worker in Ray Train's group: examples, checkpoints and notices of leaving come and go through Ray."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.train
from ray.train import Checkpoint
from ray.train.collective import broadcast_from_rank_zero
from transformers import TrainerCallback

_ASK_EVERY_S = 3.0


class RayHost:
    """`train_worker.Host` on Ray Train."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self.num_workers = ray.train.get_context().get_world_size()
        self._leaving = _SaveBeforeLeaving(progress)

    @property
    def callbacks(self) -> list[TrainerCallback]:
        """Return what watches for nodes that leave and come."""
        return [self._leaving]

    @property
    def stops_for_resize(self) -> bool:
        """Tell whether the training ended to go on with more workers."""
        return self._leaving.stops_for_resize

    def examples(self) -> list[pa.Table]:
        """Return whole blocks as Arrow tables, which share the node's object store: nothing is copied per worker."""
        shard = ray.train.get_dataset_shard("train")
        return list(shard.iter_batches(batch_size=None, batch_format="pyarrow"))  # type: ignore[arg-type]

    def report(self, step: int, facts: dict[str, float]) -> None:
        """Tell the driver how far the training is."""
        self._progress.report.remote(step, facts)

    def say(self, text: str) -> None:
        """Have the driver say one thing."""
        self._progress.say.remote(text)

    @contextlib.contextmanager
    def resume_folder(self) -> Iterator[Path | None]:
        """Give the checkpoint to go on from."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with checkpoint.as_directory() as folder:
            yield Path(folder)

    def keep_checkpoint(self, step: int, folder: Path) -> None:
        """Hand this worker's files to Ray Train, which merges those of all."""
        ray.train.report({"step": step}, checkpoint=Checkpoint.from_directory(str(folder)))


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
