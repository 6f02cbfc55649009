"""Whether what a recipe asks for is possible, as far as that is known before any work."""

import numpy as np

from s2l_ray.config import Recipe
from s2l_ray.modeling.models import fresh_config, load_tokenizer, model_identity, tokenizer_identity
from s2l_ray.modeling.schedule import plan_training
from s2l_ray.numerics.kmeans import resolve_num_clusters
from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors import find_selector
from s2l_ray.selectors.interface import resolve_budget
from s2l_ray.selectors.learning_percentage import epoch_1_point
from s2l_ray.stages.prepare import PreparePlan
from s2l_ray.training_config import ModelConfig


def selections_of(recipe: Recipe) -> list[SelectionConfig]:
    """Return the selection asked for, then its controls."""
    names = [recipe.selection.selector, *recipe.selection.controls]
    return [recipe.selection.model_copy(update={"selector": name, "controls": []}) for name in names]


def check_model(model: ModelConfig) -> None:
    """Refuse a model or tokenizer that is not there or cannot be loaded."""
    tokenizer_identity(model)  # first: without a network it refuses at once, transformers tries for a minute
    model_identity(model)
    tokenizer = load_tokenizer(model)
    if model.config is not None:
        fresh_config(model, len(tokenizer))


def check_pool(recipe: Recipe, pool: PreparePlan, target_pool: PreparePlan, *, needs_proxy: bool) -> None:
    """Refuse what the pool is too small for, as far as its size is known by now."""
    config = recipe.selection
    parameters: set[str] = set()
    for each in selections_of(recipe):
        parameters |= find_selector(each.selector).parameters
    candidates = min(_most_examples(pool), _most_examples(target_pool))
    if config.selector != "full":
        resolve_budget(config.budget, candidates)
    if "num_clusters" in parameters:
        resolve_num_clusters(config.num_clusters, candidates)
    if not needs_proxy:
        return
    plan = plan_training(recipe.proxy, _most_examples(pool), recipe.trajectory)
    if "epoch_1_fraction" in parameters:
        epoch_1_point(np.array([point.fraction for point in plan.points]), config.epoch_1_fraction)


def _most_examples(plan: PreparePlan) -> int:
    """Return the number of examples of a prepared pool, or the most that one still to be prepared can have."""
    if plan.artifact.is_finished:
        return int(plan.artifact.manifest()["rows"]["examples"])
    num_rows = sum(scan.num_rows for scan in plan.scans)
    return min(num_rows, plan.data.limit or num_rows)
