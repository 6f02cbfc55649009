"""finetune: the target model on a selection, with DeepSpeed; ends as a Hugging Face folder."""

import time
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.execution.precision import settle_precision
from s2l_ray.execution.training import train
from s2l_ray.modeling.adapters import holds_model
from s2l_ray.modeling.identity import model_identity, tokenizer_identity
from s2l_ray.modeling.schedule import ORDER_FILE, TrainingRun, plan_training
from s2l_ray.modeling.tracked import tracked
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.selectors.training_order import BY_TRAJECTORY, training_order
from s2l_ray.stages.planning import FOR_TARGET, Planning, Step
from s2l_ray.stages.table import stage_of
from s2l_ray.stages.work import Sizes, Work, training_work
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.needs import Need
from s2l_ray.tables.training_curve import CURVE_FILE, curve_table

_CLUSTERS = ("num_clusters", "kmeans_fit_rows", "kmeans_iterations")


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of a fine-tuned target, named by the model, how it is trained, and on which rows."""
    recipe, config = planning.recipe, planning.recipe.target
    selection, examples = planning.artifact("selection", of), planning.artifact("examples", FOR_TARGET)
    training = {**config.identity(), "model": model_identity(config.model)}
    training.pop("seed", None)  # the one that it comes to stands below
    identity = {"training": training, **tokenizer_identity(config.model), "seed": recipe.target_seed}
    parents = {"selection": selection.fingerprint, "examples": examples.fingerprint}
    trajectories = None
    if config.order in BY_TRAJECTORY:
        trajectories = planning.artifact(Need.TRAJECTORIES)
        parents["trajectories"] = trajectories.fingerprint
    if config.order == "cluster_round_robin":
        identity["clusters"] = {"seed": recipe.selection_seed, **recipe.selection.identity_of(*_CLUSTERS)}
    artifact = Artifact(planning.storage, "finetune", identity, parents)
    run = partial(run_finetune, artifact, selection, examples, recipe, of, trajectories)
    return Step(stage_of("finetune"), artifact, run, of)


def work(step: Step, sizes: Sizes) -> Work:
    """Return what the training does."""
    config, pool = sizes.recipe.target, sizes.selected(step.of)
    return training_work(sizes, "target.model", config, pool, plan_training(config, pool.rows).total_steps)


def run_finetune(
    artifact: Artifact, selection: Artifact, examples: Artifact, recipe: Recipe, label: str | None,
    trajectories: Artifact | None = None,
) -> dict[str, Any]:
    """Train the target; `model/` is a folder that AutoModelForCausalLM.from_pretrained loads then.

    Raises
    ------
    RuntimeError
        A selected example is not among the target's examples.
    """
    started, resources = time.time(), recipe.resources
    precision = settle_precision(artifact, recipe.target.precision, resources)
    config = recipe.target.model_copy(update={"precision": precision})
    ids = selection.read_table("selection.parquet", ["example_id"])["example_id"].combine_chunks()
    num_found = _count(examples, ids)
    if num_found != len(ids):
        raise RuntimeError(f"{num_found} of {len(ids)} selected examples are among the target's examples")
    if not config.shuffles:
        ordered = training_order(ids, config.order, trajectories, recipe.selection, recipe.selection_seed)
        artifact.write_table(ORDER_FILE, pa.table({"example_id": ordered}))
    schedule = plan_training(config, len(ids))
    chosen = recipe.arms.get(str(label), recipe.selection)
    about = {"selection": {"selector": chosen.selector, "budget": chosen.budget, "rows": len(ids),
                           "seed": recipe.selection_seed, "fingerprint": selection.fingerprint}}
    run = TrainingRun(f"finetune on {label}", config, schedule, recipe.target_seed, artifact.storage, artifact.folder,
                      resources.cpus_per_worker, resources.use_gpu,
                      tracked(recipe, str(label), artifact.fingerprint, about))
    result = train(run, examples, resources, ids)
    if not holds_model(artifact, "model"):
        raise RuntimeError(f"the training on {label} ended without a model in {artifact.folder}/model")
    artifact.write_table(CURVE_FILE, curve_table(result.pop("curve")))
    facts = {
        "rows": {"examples": len(ids)},
        "total_steps": schedule.total_steps,
        "precision": precision,
        "zero_stage": config.zero_stage,
        "resources": resources.model_dump(),
        **result,
    }
    return artifact.publish(facts, started)


def _count(examples: Artifact, ids: pa.Array) -> int:
    """Return how many rows of the examples have one of the ids."""
    shards = (examples.read_table(f"examples/{name}", ["example_id"]) for name in examples.list_names("examples"))
    return sum(pc.sum(pc.is_in(shard["example_id"], value_set=ids)).as_py() or 0 for shard in shards)
