"""One supervised fine-tuning: DDP for the proxy, DeepSpeed for the target, on Ray or on this machine alone."""

import time
from typing import Any

import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.execution.local.checkpoints import CHECKPOINT
from s2l_ray.execution.local.machine import this_machine
from s2l_ray.execution.local.training import train_here
from s2l_ray.modeling.schedule import TrainingRun
from s2l_ray.progress.notes import note
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.storage.artifacts import Artifact

_RESUME = "resume"


def train(
    run: TrainingRun, examples: Artifact, resources: ResourcesConfig, selected: pa.Array | None = None
) -> dict[str, Any]:
    """Fine-tune; return rank 0's {"history", "num_workers_used", "phases_s"}. The model lies in `<folder>/model` then.

    The phases are seconds from now until there was a worker, its model, its first batch, its first step, and so on.

    Resumes from the newest checkpoint below `<folder>/resume...`, where an earlier run left one.

    Parameters
    ----------
    selected
        Ids of the examples to train on; None takes all.

    Raises
    ------
    InputError
        A worker found something that the user has to fix, or there was no room in time.
    """
    started, machine, name = time.time(), this_machine(), _resume_name(run, resources)
    if machine is not None:
        outcome = train_here(machine, run, examples, selected, name, resources)
    else:
        from s2l_ray.execution.datasets import read_examples  # heavy: Ray Data and Ray Train
        from s2l_ray.execution.ray_training import train_with_ray

        outcome = train_with_ray(run, read_examples(examples, selected), name, resources)
    for left in run.storage.list_names(run.folder):
        if left.startswith(_RESUME):
            run.storage.delete_folder(f"{run.folder}/{left}")
    if outcome["attention"] == "eager":
        note(f"{run.name}: this model has no faster attention here than eager, which is slow and takes memory with the "
             "square of the length")
    times = outcome.pop("times")
    return {**outcome, "phases_s": {phase: round(when - started, 3) for phase, when in times.items()}}


def check_resumable(artifact: Artifact, resources: ResourcesConfig) -> None:
    """Refuse to go on with a DeepSpeed training in a way that loses it.

    Raises
    ------
    InputError
        Its checkpoints were written by another number of workers, which DeepSpeed cannot load.
    """
    ours = f"{_RESUME}-{resources.min_workers}-workers"
    storage = artifact.storage
    others = [name for name in storage.list_names(artifact.folder) if name.startswith(f"{_RESUME}-") and name != ours]
    for name in others:
        kept = storage.list_names(artifact.file(name))
        if any(entry.startswith(("checkpoint_", CHECKPOINT)) for entry in kept):
            num_workers = name.split("-")[1]
            raise InputError(
                f"{artifact.folder} holds an unfinished training of {num_workers} workers, and resources.num_workers="
                f"{resources.min_workers} cannot go on with DeepSpeed's checkpoints of it: set resources.num_workers="
                f"{num_workers}, or delete {storage.uri_of(artifact.file(name))} to begin it again"
            )


def _resume_name(run: TrainingRun, resources: ResourcesConfig) -> str:
    """Return the folder of resume checkpoints: DeepSpeed's fit the number of workers that wrote them and no other."""
    return f"{_RESUME}-{resources.min_workers}-workers" if run.config.zero else _RESUME
