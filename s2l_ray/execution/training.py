"""One supervised fine-tuning: DDP for the proxy, DeepSpeed for the target, on Ray or on this machine alone."""

import time
from typing import Any

import pyarrow as pa

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

    Resumes from the newest checkpoint below `<folder>/resume`, where an earlier run left one, of any number of workers.

    Parameters
    ----------
    selected
        Ids of the examples to train on; None takes all.

    Raises
    ------
    InputError
        A worker found something that the user has to fix, or there was no room in time.
    """
    started, machine = time.time(), this_machine()
    if machine is not None:
        outcome = train_here(machine, run, examples, selected, _RESUME, resources)
    else:
        from s2l_ray.execution.datasets import read_examples  # heavy: Ray Data and Ray Train
        from s2l_ray.execution.ray_training import train_with_ray

        outcome = train_with_ray(run, read_examples(examples, selected), _RESUME, resources)
    for left in run.storage.list_names(run.folder):
        if left.startswith(_RESUME):  # earlier versions put the number of workers behind it
            run.storage.delete_folder(f"{run.folder}/{left}")
    if len(outcome["num_workers_used"]) > 1:
        used = ", then ".join(map(str, outcome["num_workers_used"]))
        note(f"{run.name}: {used} workers. Sums were rounded in another order than by one number of them throughout, "
             "so this is not bit for bit the model of an undisturbed run; the manifest says so too")
    if outcome["attention"] == "eager":
        note(f"{run.name}: this model has no faster attention here than eager, which is slow and takes memory with the "
             "square of the length")
    times = outcome.pop("times")
    return {**outcome, "phases_s": {phase: round(when - started, 3) for phase, when in times.items()}}
