"""proxy: fine-tune the small model on the whole pool and keep its weights at the trajectory points."""

import time
from functools import partial
from typing import Any

from s2l_ray.execution.precision import settle_precision
from s2l_ray.execution.training import train
from s2l_ray.modeling.adapters import holds_model
from s2l_ray.modeling.checkpoints import Checkpoint, checkpoints_identity, find_checkpoints
from s2l_ray.modeling.identity import model_identity, tokenizer_identity
from s2l_ray.modeling.schedule import TrainingRun, plan_training
from s2l_ray.modeling.tracked import tracked
from s2l_ray.progress.notes import note
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.stages.planning import Planning, Step
from s2l_ray.stages.table import stage_of
from s2l_ray.stages.work import Sizes, Work, training_work
from s2l_ray.stages.workers.settling import SettledClusters
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.training_curve import CURVE_FILE, curve_table


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of the proxy, named by what it is trained on, how, and where it is recorded.

    Of checkpoints that somebody's own training left, by their steps and weights.
    """
    recipe, examples = planning.recipe, planning.artifact("examples")
    if recipe.trajectory.checkpoints is not None:
        found = find_checkpoints(recipe.trajectory.checkpoints)
        artifact = Artifact(planning.storage, "proxy", {"checkpoints": checkpoints_identity(found)}, {})
        return Step(stage_of("proxy"), artifact, partial(take_checkpoints, artifact, found, recipe), runs_on="none")
    config, recorded = recipe.proxy, recipe.trajectory.identity()
    identity: dict[str, Any] = {
        "training": {**config.identity(), "model": model_identity(config.model)},
        **tokenizer_identity(config.model),
        **{name: recorded[name] for name in ("num_points", "include_initial", "stop_when_stable") if name in recorded},
        "seed": recipe.seed,
    }
    artifact = Artifact(planning.storage, "proxy", identity, {"examples": examples.fingerprint})
    return Step(stage_of("proxy"), artifact, partial(run_proxy, artifact, examples, recipe))


def work(step: Step, sizes: Sizes) -> Work:
    """Return what the training does."""
    recipe, pool = sizes.recipe, sizes.pool(None)
    if recipe.trajectory.checkpoints is not None:
        return Work(0)
    steps = plan_training(recipe.proxy, pool.rows, recipe.trajectory).total_steps
    return training_work(sizes, "proxy.model", recipe.proxy, pool, steps)


def take_checkpoints(artifact: Artifact, found: tuple[Checkpoint, ...], recipe: Recipe) -> dict[str, Any]:
    """Keep the weights of somebody's own training as a proxy's points, the last one as the finished model, too."""
    started, points = time.time(), plan_training(recipe.proxy, 0, recipe.trajectory).points
    for point, checkpoint in zip(points, found, strict=True):
        note(f"proxy: {checkpoint.folder.name} is the point at step {point.step:,} of {points[-1].step:,}")
        for folder in (point.folder, *(("model",) if point is points[-1] else ())):
            for file in checkpoint.files:
                artifact.storage.upload_file(file, artifact.file(f"{folder}/{file.name}"))
    facts = {
        "points": [point.record for point in points],
        "rows": {"points": len(points)},
        "total_steps": 0,
        "checkpoints": [str(checkpoint.folder) for checkpoint in found],
    }
    return artifact.publish(facts, started)


def run_proxy(artifact: Artifact, examples: Artifact, recipe: Recipe) -> dict[str, Any]:
    """Train the proxy; its points lie in `point-<step>/` then, the finished model in `model/`.

    Raises
    ------
    InputError
        There are fewer optimizer steps than trajectory points.
    """
    started, resources = time.time(), recipe.resources
    precision = settle_precision(artifact, recipe.proxy.precision, resources)
    config = recipe.proxy.model_copy(update={"precision": precision})
    num_examples = examples.manifest()["rows"]["examples"]
    schedule = plan_training(config, num_examples, recipe.trajectory)
    run = TrainingRun("proxy: train", config, schedule, recipe.seed, artifact.storage, artifact.folder,
                      resources.cpus_per_worker, resources.use_gpu,
                      tracked(recipe, "proxy", artifact.fingerprint, {"rows": num_examples}),
                      SettledClusters() if recipe.trajectory.stop_when_stable else None)
    result = train(run, examples, resources)
    points = [point for point in schedule.points if point.step <= result["total_steps"]]
    missing = [point.folder for point in points if not holds_model(artifact, point.folder)]
    if missing:
        raise RuntimeError(f"the proxy's training ended without the trajectory points {missing}")
    if points[-1] is not schedule.points[-1]:
        note(f"proxy: the clusters have stopped changing: ended after {result['total_steps']:,} of "
             f"{schedule.total_steps:,} steps and {len(points)} of {len(schedule.points)} points, "
             f"{1 - points[-1].fraction:.0%} of the training saved")
    artifact.write_table(CURVE_FILE, curve_table(result.pop("curve")))
    facts = {
        "points": [point.record for point in points],
        "rows": {"examples": num_examples},
        "planned_steps": schedule.total_steps,
        "precision": precision,
        "resources": resources.model_dump(),
        **result,
    }
    return artifact.publish(facts, started)
