"""A training worker of this machine's processes: examples and checkpoints come and go through the storage."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import TrainerCallback

from s2l_ray.execution.local.checkpoints import CHECKPOINT, complete
from s2l_ray.modeling.schedule import TRAINED_ON, TrainingRun
from s2l_ray.storage.artifacts import Artifact


class LocalHost:
    """`train_worker.Host` on this machine alone."""

    callbacks: Sequence[TrainerCallback] = ()
    stops_for_resize = False

    def __init__(
        self, run: TrainingRun, examples: Artifact, selected: pa.Array | None, resume_name: str, checkpoint: str | None,
        report: Callable[[Any], None], shared: Path,
    ) -> None:
        """Take part in a training whose workers share a file for the examples, which is not there yet."""
        self._run, self._artifact, self._selected, self._report, self._shared = run, examples, selected, report, shared
        self._folder, self._checkpoint = f"{run.folder}/{resume_name}", checkpoint
        self.num_workers = torch.distributed.get_world_size()

    def examples(self) -> list[pa.Table]:
        """Return the selected rows of every shard, in memory that the workers share and the system may page out."""
        is_first = torch.distributed.get_rank() == 0
        if is_first:
            self._write_examples()
        torch.distributed.barrier()
        table = pa.ipc.open_file(pa.memory_map(str(self._shared))).read_all()
        torch.distributed.barrier()
        if is_first:  # everyone has it open: it goes with the last of them, whatever ends them
            self._shared.unlink()
        return [table]

    def _write_examples(self) -> None:
        """Write them shard by shard, so that no process holds all of them."""
        shards = map(self._shard, self._artifact.list_names("examples"))
        first = next(shards)
        with pa.OSFile(str(self._shared), "wb") as file, pa.ipc.new_file(file, first.schema) as writer:
            for shard in chain([first], shards):
                writer.write_table(shard.cast(first.schema))

    def _shard(self, name: str) -> pa.Table:
        table = self._artifact.read_table(f"examples/{name}", TRAINED_ON)
        if self._selected is None:
            return table
        return table.filter(pc.is_in(table["example_id"], value_set=self._selected))

    def report(self, step: int, facts: dict[str, float]) -> None:
        """Tell the driver how far the training is."""
        self._report((step, facts))

    def say(self, text: str) -> None:
        """Have the driver say one thing."""
        self._report(text)

    @contextlib.contextmanager
    def resume_folder(self) -> Iterator[Path | None]:
        """Give the checkpoint to go on from."""
        if self._checkpoint is None:
            yield None
            return
        with self._run.storage.local_folder(f"{self._folder}/{self._checkpoint}") as folder:
            yield folder

    def keep_checkpoint(self, step: int, folder: Path) -> None:
        """Copy this worker's files to the storage; the first worker then makes it the newest checkpoint."""
        name = f"{CHECKPOINT}{step:08d}"
        self._run.storage.upload_folder(folder, f"{self._folder}/{name}")
        torch.distributed.barrier()
        if torch.distributed.get_rank() == 0:
            complete(self._run.storage, self._folder, name)
