"""The steps of a run, run: what is finished is reused."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from s2l_ray.execution.cluster import Cluster, ray_session
from s2l_ray.execution.preflight import local_inputs
from s2l_ray.pipeline.plan import RunPlan
from s2l_ray.progress.notes import note
from s2l_ray.progress.wording import clock, counts
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.stages.planning import Step
from s2l_ray.storage.artifacts import git_commit
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

    Ray starts with the first step that has work to do, so finished steps answer at once.

    Parameters
    ----------
    check
        Called after a step that gives examples, when more is known of how many there are.
    """
    done = []
    with contextlib.ExitStack() as stack:
        cluster: Cluster | None = None
        for step in steps:
            started, is_reused = time.time(), step.artifact.is_finished
            if is_reused:
                manifest = step.artifact.manifest()
            else:
                if cluster is None:
                    cluster = stack.enter_context(_connected(steps, recipe, storage))
                cluster.make_ready(step.label, step.stage.workers)
                manifest = step.run()
                if step.most_rows is not None:
                    check()
            seconds = time.time() - started
            how = f"reused {step.artifact.folder}" if is_reused else f"done in {clock(seconds)}"
            note(f"{step.label}: {how}, {counts(manifest['rows'])}")
            done.append(Done(step, manifest, is_reused, seconds))
    return done


@contextlib.contextmanager
def _connected(steps: Sequence[Step], recipe: Recipe, storage: Storage) -> Any:
    """Be connected to a Ray cluster that can do the steps that are left."""
    if not ray.is_initialized():
        note("starting Ray ...")
    with ray_session(recipe.resources, storage, local_inputs(recipe)) as cluster:
        check_first(steps, cluster)
        note(f"running on {cluster.describe()}")
        yield cluster


def check_first(steps: Sequence[Step], cluster: Cluster, *, ask: bool = True) -> None:
    """Refuse what can be known to fail before the first step runs: nodes, room for each stage, lost checkpoints.

    `ask` is whether an autoscaler may be asked for nodes.

    Raises
    ------
    InputError
        With what to change.
    """
    left = [step for step in steps if not step.artifact.is_finished]
    cluster.check([step.stage.workers for step in left], ask=ask)
    for step in left:
        if step.check is not None:
            step.check()


def record_run(plan: RunPlan, command: str) -> None:
    """Write what the run consists of, so that `s2l status` can tell its state from anywhere."""
    plan.storage.write_json(f"{plan.folder}/run.json", {
        "name": plan.recipe.name,
        "recipe": plan.recipe.model_dump(),
        "command": command,
        "git_commit": git_commit(),
        "started": time.time(),
        "steps": [step.record for step in plan.steps],
    })
