"""Run units of work on all cores or GPUs: each unit alone is retried, and results stream back."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from s2l_ray.execution.attempts import MAX_ATTEMPTS, MAX_FAILING, Worker, describe_failure, unit_error
from s2l_ray.execution.local.machine import this_machine
from s2l_ray.execution.local.units import rows_here
from s2l_ray.progress.bars import Task, task
from s2l_ray.progress.notes import note
from s2l_ray.recipe.resources import ResourcesConfig

Pass = Callable[[Mapping[int, Any]], Iterable[Mapping[str, Any]]]
"""Does numbered units once and gives their rows as they come."""


def run_units(
    name: str,
    worker: Callable[..., Worker],
    arguments: Mapping[str, Any],
    units: Sequence[Any],
    resources: ResourcesConfig,
    *,
    actors: bool = False,
    gpu: bool = False,
    unit_name: str = "shards",
    describe: Callable[[Any], str] = str,
) -> list[dict[str, Any]]:
    """Run every unit with a `worker` in each of a pool of processes; return their rows in the order of the units.

    A unit that fails, or whose process dies, is run again, three times in all; the others are done meanwhile. The
    number of processes follows the cluster and never changes what a unit computes.

    Parameters
    ----------
    name
        What people see beside the progress.
    arguments
        Keyword arguments of `worker`, sent to each process.
    units
        Picklable descriptions of the work.
    actors
        Whether there is much to load for long work: on Ray, workers live in actors of their own then. Otherwise they
        run in tasks, whose processes serve later stages too, and on this machine alone a few units in this process:
        starting one takes longer than many a small unit.
    gpu
        Whether a worker takes a GPU (with `resources.use_gpu`); it then lives in an actor.
    describe
        What a unit is called when it fails.

    Raises
    ------
    InputError
        A unit found something that the user has to fix, or all nodes for the work were lost and none came in time.
    UnitError
        A unit failed at every attempt, or so many did that it is not the units which are bad.
    """
    if not units:
        return []
    numbered, done = dict(enumerate(units)), dict[int, dict[str, Any]]()
    with (
        _passes(name, worker, dict(arguments), resources, actors=actors, gpu=gpu) as run_pass,
        task(name, len(units), unit_name) as progress,
    ):
        for repeated in range(MAX_ATTEMPTS):
            todo = {number: unit for number, unit in numbered.items() if number not in done}
            failed = _collect(run_pass(todo), done, progress)
            if not failed:
                break
            message = describe_failure(name, failed[0], describe(numbered[failed[0]["unit"]]), len(failed))
            if repeated == MAX_ATTEMPTS - 1 or len(failed) > MAX_FAILING:
                raise unit_error(message, failed[0])
            note(f"{message}; trying again")
    assert sorted(done) == list(numbered), "each unit comes back once, or as failed"
    return [done[number] for number in numbered]


@contextlib.contextmanager
def _passes(
    name: str, worker: Callable[..., Worker], arguments: dict[str, Any], resources: ResourcesConfig, *,
    actors: bool, gpu: bool,
) -> Iterator[Pass]:
    """Give what does units once: this machine where the work runs on it alone, else Ray Data."""
    machine = this_machine()
    if machine is not None:
        yield lambda units: rows_here(machine, worker, arguments, units, resources, few_inside=not (actors or gpu))
        return
    from s2l_ray.execution.ray_units import ray_passes  # heavy: Ray Data

    with ray_passes(name, worker, arguments, resources, actors=actors, gpu=gpu) as run_pass:
        yield run_pass


def _collect(
    rows: Iterable[Mapping[str, Any]], done: dict[int, dict[str, Any]], progress: Task
) -> list[dict[str, Any]]:
    """Put the rows of a pass into `done` as they come, and return those of units that failed, in order."""
    started, num_tokens, failed = time.monotonic(), 0, []
    for row in map(dict, rows):
        if "error" in row:
            failed.append(row)
            if len(failed) > MAX_FAILING:
                break
            continue
        done[row["unit"]] = row
        num_tokens += row.get("num_tokens", 0)
        speed = {"tokens/s": num_tokens / (time.monotonic() - started)} if num_tokens else None
        progress.update(len(done), speed)
    return sorted(failed, key=lambda row: row["unit"])
