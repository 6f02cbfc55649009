"""How fast a recipe's stages are where it runs: from a short run of it on few rows, which is then deleted."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from s2l_ray.modeling.schedule import plan_training
from s2l_ray.pipeline.estimate import work_of
from s2l_ray.pipeline.machine import Machine, Rate
from s2l_ray.pipeline.run import run_steps
from s2l_ray.pipeline.sizes import prepared_pool
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.recipe.training import TrainingConfig
from s2l_ray.stages.planning import BASE, Planning, Step
from s2l_ray.stages.work import Sizes, Work
from s2l_ray.storage.files import Storage

_LASTS_S = 4.0
"""Of a stage, about, by the rates that are assumed: shorter ones measure how a process warms up."""
_ROWS, _STEPS = (64, 4096), (6, 100)
_HELD_OUT, _HARNESS_ROWS = 64, 8
_MICRO_BATCHES = 4  # of each worker in a step, at most, on CPUs
_ARM = "random"


def measure_rates(recipe: Recipe, steps: Sequence[Step], sizes: Sizes, machine: Machine) -> dict[str, Rate]:
    """Return what each stage of the steps reached in a run of a few steps on few rows, on the recipe's own workers.

    Raises
    ------
    InputError
        As the run itself.
    """
    place, folder = Storage.open(recipe.storage), f"calibration-{uuid.uuid4().hex[:8]}"  # no stage's, no other plan's
    short = _short(recipe, place.uri_of(folder), {step.stage.name: _assumed_s(step, sizes, machine) for step in steps},
                   sizes)
    storage = Storage.open(short.storage)
    planning = Planning(short, storage)
    stages = {step.stage.name: step.stage for step in steps}
    for stage in stages.values():
        asked = {step.of or stage.gives[0] for step in steps if step.stage is stage}
        for table in stage.gives:
            if not stage.is_per_arm and table in asked:
                planning.step(table)
    for table, stage_name in (("model", "finetune"), ("evaluation", "evaluate")):
        if stage_name in stages:
            planning.step(table, _ARM)
    if "evaluate" in stages:
        planning.step("evaluation", BASE)
    made = planning.steps()
    try:
        done = run_steps(made, short, storage)
        pools = {step.of: prepared_pool(step) for step in made if step.stage.name == "prepare"}
        few = replace(sizes, recipe=short, pools=pools)
        found = {}
        for one in done:  # of evaluations the last, which has workers that are there
            rate = _rate(one.manifest, one.step, work_of(one.step, few), machine, short)
            if rate is not None:
                found[one.step.stage.name] = rate
        return found
    finally:
        place.delete_folder(folder)


def _assumed_s(step: Step, sizes: Sizes, machine: Machine) -> float:
    """Return how long a step works, by assumed rates, when its workers are there."""
    work, resources = work_of(step, sizes), sizes.recipe.resources
    num_workers = machine.num_workers(step.workers, resources)
    return work.operations / (machine.rate(step, work, resources).per_worker * num_workers)


def _times(seconds: float, least: int, most: int) -> int:
    """Return how often something of so many seconds is done to last long enough, within bounds."""
    return round(min(max(_LASTS_S / max(seconds, 1e-9), least), most))


def _short(recipe: Recipe, storage: str, assumed_s: Mapping[str, float], sizes: Sizes) -> Recipe:
    """Return the recipe with few rows, steps and points, on the same models and workers."""
    passes = recipe.trajectory.num_points + int(recipe.trajectory.include_initial)
    a_row_s = 2 * assumed_s.get("trajectories", 0.0) / passes / max(1, sizes.pool(None).rows)
    rows = _times(a_row_s or _LASTS_S / 512, *_ROWS)
    num_chosen = sizes.selected(next(iter(recipe.arms))).rows
    tasks = [task.model_copy(update={"limit": min(task.limit or _HELD_OUT, _HELD_OUT)})
             for task in recipe.evaluation.tasks]
    harness = recipe.evaluation.harness
    harness = harness.model_copy(update={"limit": min(harness.limit or _HARNESS_ROWS, _HARNESS_ROWS)})
    return recipe.model_copy(update={
        "name": "calibration", "storage": storage, "report_to": [],
        "data": recipe.data.model_copy(update={"limit": min(recipe.data.limit or rows, rows)}),
        "proxy": _brief(recipe.proxy, recipe, assumed_s.get("proxy", 0.0), sizes.pool(None).rows),
        "target": _brief(recipe.target, recipe, assumed_s.get("finetune", 0.0), num_chosen),
        "trajectory": recipe.trajectory.model_copy(update={"num_points": 1, "include_initial": True}),
        "selection": SelectionConfig(selector=_ARM, budget=0.5, controls=[]),
        "evaluation": recipe.evaluation.model_copy(update={"tasks": tasks, "harness": harness}),
    })


def _brief(config: TrainingConfig, recipe: Recipe, assumed_s: float, num_examples: int) -> TrainingConfig:
    """Return a training of few steps, of fewer examples each on CPUs."""
    workers, batch = recipe.resources.min_workers, config.global_batch_size
    if not recipe.resources.use_gpu:
        batch = min(batch, _MICRO_BATCHES * config.unmeasured_micro_batch(workers) * workers)
    a_step_s = assumed_s / plan_training(config, num_examples).total_steps * batch / config.global_batch_size
    return config.model_copy(update={"epochs": None, "max_steps": _times(a_step_s, *_STEPS), "num_checkpoints": 0,
                                     "global_batch_size": batch})


def _rate(manifest: Mapping[str, Any], step: Step, work: Work, machine: Machine, recipe: Recipe) -> Rate | None:
    """Return what a stage's manifest says of its speed; None where there was nothing to measure."""
    if not work.operations:
        return None
    wall_s, num_workers = manifest["wall_s"], machine.num_workers(step.workers, recipe.resources)
    if step.workers == "training":
        phases, steps = manifest["phases_s"], manifest["total_steps"]
        seconds = (phases["trained"] - phases["first_step"]) * steps / (steps - 1)  # the first step warms up
        return Rate(wall_s - seconds, work.operations / seconds / num_workers, is_measured=True)
    if "model_s" in manifest:
        seconds = manifest["model_s"]
        return Rate(max(0.0, wall_s - seconds / min(num_workers, manifest["num_shards"])), work.operations / seconds,
                    is_measured=True)
    return Rate(0.0, work.operations / wall_s, is_measured=True)


