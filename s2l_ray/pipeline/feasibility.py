"""Whether what a recipe asks for is possible, as far as that is known before any work."""

from collections.abc import Iterable, Sequence

import numpy as np

from s2l_ray.execution.trackers import check_trackers
from s2l_ray.modeling.identity import model_identity, tokenizer_identity
from s2l_ray.modeling.schedule import plan_training
from s2l_ray.progress.notes import note
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.selectors.run import resolve_budget
from s2l_ray.stages.planning import FOR_TARGET, Step
from s2l_ray.stages.select import check_composition
from s2l_ray.tables.needs import Need


def check_files(model: ModelConfig) -> None:
    """Refuse a model or tokenizer that is not there."""
    tokenizer_identity(model)  # without a network it refuses at once, transformers tries for a minute
    model_identity(model)


def check_work(steps: Sequence[Step], recipes: Iterable[Recipe]) -> None:
    """Refuse what is known to fail of the steps that are left of some recipes, before any worker starts.

    Raises
    ------
    InputError
        A tracker is not there, a tokenizer cannot be loaded, a config makes no model, a model has too few positions,
        or what a step itself refuses.
    """
    from s2l_ray.modeling import limits  # heavy: transformers, as the next
    from s2l_ray.modeling.models import load_tokenizer

    recipes, left = list(recipes), unfinished(steps)
    if any(step.workers == "training" for step in left):
        for recipe in recipes:
            check_trackers("report_to", recipe.report_to)
    models = {(repr(model), recipe.data.max_length): (key, model)
              for recipe in recipes for key, model in recipe.models().items()}
    for (_, max_length), (key, model) in models.items():
        num_tokens = len(load_tokenizer(model))
        settings = limits.settings_of(model, num_tokens)
        limits.check_attention(key, model, num_tokens)
        longer = limits.check_positions(f"{key} {model.path or 'made fresh'}", settings, max_length)
        if longer:
            note(longer)
    for step in left:
        if step.check is not None:
            step.check()


def unfinished(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that are left."""
    return [step for step in steps if not step.artifact.is_finished]


def check_pool(recipe: Recipe, steps: Sequence[Step]) -> None:
    """Refuse what the pool is too small for, as far as its size is known by now.

    Raises
    ------
    InputError
        With the setting to change.
    """
    rows = {step.of: _most_rows(step) for step in steps if step.most_rows is not None}
    candidates = min(rows[of] for of in (None, FOR_TARGET) if of in rows)
    trains_proxy = any("proxy" in step.stage.gives for step in steps)
    fractions_C = None
    if trains_proxy:
        points = plan_training(recipe.proxy, rows[None], recipe.trajectory).points
        fractions_C = np.array([point.fraction for point in points])
    for name, config in recipe.arms.items():
        selector = SELECTORS.find(name)
        if selector.takes_budget:
            resolve_budget(config.budget, candidates)
        if trains_proxy or Need.TRAJECTORIES not in selector.needs:
            selector.check(config, candidates, fractions_C)
    prepared = next(step.artifact for step in steps if "examples" in step.stage.gives and step.of is None)
    if prepared.is_finished:
        for config in recipe.arms.values():
            check_composition(config, prepared)


def _most_rows(step: Step) -> int:
    """Return the number of examples of a prepared pool, or the most that one still to be prepared can have."""
    if step.artifact.is_finished:
        return int(step.artifact.manifest()["rows"]["examples"])
    assert step.most_rows is not None
    return step.most_rows
