"""The steps of a run, run: what is finished is reused."""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil

from s2l_ray.execution.inputs import local_inputs
from s2l_ray.execution.session import Place, session
from s2l_ray.pipeline.feasibility import check_work, unfinished
from s2l_ray.pipeline.plan import RunPlan
from s2l_ray.progress.notes import note
from s2l_ray.progress.wording import clock, counts
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.stages.planning import Step
from s2l_ray.storage.artifacts import git_commit, is_finished
from s2l_ray.storage.files import Storage


@dataclass(frozen=True)
class Done:
    """What came of a step in this run."""

    step: Step
    manifest: dict[str, Any]
    is_reused: bool
    seconds: float


def run_plan(plan: RunPlan, command: str) -> list[Done]:
    """Record the run, run what of it is not finished yet, and return what came of each step."""
    record_run(plan, command)
    return run_steps(plan.steps, plan.recipe, plan.storage, plan.check)


def run_steps(
    steps: Sequence[Step], recipe: Recipe, storage: Storage, check: Callable[[], None] = lambda: None
) -> list[Done]:
    """Run what is not finished yet, in order, and return what came of each step.

    Workers, and Ray where it is needed, start with the first step that has work to do: finished ones answer at once.

    Parameters
    ----------
    check
        Called after a step that gives examples, when more is known of how many there are.
    """
    done = []
    with contextlib.ExitStack() as stack:
        place: Place | None = None
        for step in steps:
            started, is_reused = time.time(), step.artifact.is_finished
            if is_reused:
                manifest = step.artifact.manifest()
            else:
                if place is None:
                    place = stack.enter_context(ready_place(steps, recipe, storage))
                    note(f"running on {place.describe()}")
                place.make_ready(step.label, step.workers)
                manifest = step.run()
                if step.most_rows is not None:
                    check()
            seconds = time.time() - started
            how = f"reused {step.artifact.folder}" if is_reused else f"done in {clock(seconds)}"
            note(f"{step.label}: {how}, {counts(manifest['rows'])}")
            done.append(Done(step, manifest, is_reused, seconds))
    return done


@contextlib.contextmanager
def ready_place(
    steps: Sequence[Step], recipe: Recipe, storage: Storage, *, ask: bool = True, others: Iterable[Recipe] = ()
) -> Iterator[Place]:
    """Have a place that can do the steps that are left; what is known to fail is refused first.

    Parameters
    ----------
    ask
        Whether an autoscaler may be asked for nodes.
    others
        Further recipes that the steps are of.

    Raises
    ------
    InputError
        With what to change.
    """
    first = partial(check_work, steps, [recipe, *others])
    with session(recipe.resources, storage, local_inputs(recipe), first) as place:
        place.check([step.workers for step in unfinished(steps)], ask=ask)
        yield place


def record_run(plan: RunPlan, command: str) -> None:
    """Write what the run consists of, so that `s2l status` can tell its state from anywhere.

    A command that goes less far than an earlier one of the same recipe, such as `s2l select` after `s2l run`, keeps
    what that one finished.
    """
    plan.storage.write_json(f"{plan.folder}/run.json", {
        "name": plan.recipe.name,
        "recipe": plan.recipe.model_dump(),
        "command": command,
        "git_commit": git_commit(),
        "process_started": psutil.Process().create_time(),
        "started": time.time(),
        "steps": _with_finished_beyond(plan, [step.record for step in plan.steps]),
    })


def _with_finished_beyond(plan: RunPlan, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps, with those finished beyond them that the record of the same recipe on the same data has."""
    storage, file = plan.storage, f"{plan.folder}/run.json"
    try:
        former = storage.read_json(file) if storage.exists(file) else None
    except ValueError:  # damaged: it is about to be written anew
        former = None
    recipe = json.loads(json.dumps(plan.recipe.model_dump()))
    if not isinstance(former, dict) or former.get("recipe") != recipe:
        return steps
    known: list[dict[str, Any]] = former.get("steps", [])
    if any(step not in known for step in steps):
        return steps
    return [step for step in known if step in steps or is_finished(storage, step["stage"], step["fingerprint"])]
