"""From a recipe's sweep to its trials: every point of the space, and the controls it is judged against."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.recipe.loading import parse_recipe
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import FOR_ANY
from s2l_ray.recipe.sweep import Draw

SEED = "seed"
SELECTOR, BUDGET, CLUSTERS = "selection.selector", "selection.budget", "selection.num_clusters"
_MAX_TRIALS = 10_000
_SHORT = {SELECTOR: "", BUDGET: "b", CLUSTERS: "k", SEED: "seed"}


@dataclass(frozen=True)
class Trial:
    """One recipe of a sweep."""

    name: str
    """Its settings in short, unique in the sweep."""
    overrides: dict[str, Any]
    """Key -> value of what the sweep sets, without settings that its selector does not read."""
    recipe: Recipe
    is_control: bool

    @property
    def seed(self) -> int:
        """Return the seed of choice and fine-tuning."""
        return int(self.overrides[SEED])

    @property
    def point(self) -> str:
        """Return the name without the seed: what trials that differ in nothing else share."""
        return self.name.removesuffix(f"-seed{self.seed}")


def plan_trials(recipe: Recipe) -> list[Trial]:
    """Return the trials of a sweep, its controls last, each once.

    The controls (`sweep.controls`) run at each budget, those that draw with `control_seeds` seeds at least, and those
    without a budget once; where the space varies more than the selection (a learning rate), at each of these settings.

    Raises
    ------
    InputError
        A key is none of the recipe's or a value is not allowed there: nothing has run then.
    """
    if recipe.evaluation.is_empty:
        raise InputError("a sweep compares held-out metrics: evaluation.tasks is empty, add a task")
    points = _points(recipe)
    seeds = [_whole(seed) for seed in recipe.sweep.seeds]
    if len(points) * len(seeds) > _MAX_TRIALS:
        raise InputError(f"sweep.space makes more than {_MAX_TRIALS:,} trials: shorten it, or set sweep.num_trials")
    ours = [{**point, SEED: seed} for point in points for seed in seeds]
    controls = [control for name in recipe.sweep.controls for control in _control(recipe, name, points, seeds)]
    asked = {_key(_as_read(point)) for point in ours}
    trials: dict[str, Trial] = {}
    for overrides in map(_as_read, [*ours, *controls]):
        key = _key(overrides)
        if key not in trials:
            trials[key] = _trial(recipe, overrides, is_control=key not in asked)
    names = [trial.name for trial in trials.values()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"sweep.space: values too alike to be told apart by name: {repeated[:3]}")
    return list(trials.values())


def _control(recipe: Recipe, name: str, points: list[dict[str, Any]], seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Yield the settings of a control's trials."""
    selector = SELECTORS.find(name)
    if not selector.takes_budget:
        seeds = seeds[:1]
    elif selector.takes_seed:
        seeds = _at_least(seeds, recipe.sweep.control_seeds)
    for point in points:
        for seed in seeds:
            yield _without_selection(point) | {SELECTOR: name, BUDGET: point[BUDGET], SEED: seed}


def _points(recipe: Recipe) -> list[dict[str, Any]]:
    """Return the points of the space, without seeds: the grid, or what is drawn from it with the recipe's seed."""
    space = {key: values for key, values in recipe.sweep.space.items() if key != SEED}
    for key, own in ((SELECTOR, recipe.selection.selector), (BUDGET, recipe.selection.budget)):
        space.setdefault(key, [own])
    grids = {key: values for key, values in space.items() if isinstance(values, list)}
    if math.prod(len(values) for values in grids.values()) > _MAX_TRIALS:
        raise InputError(f"sweep.space makes more than {_MAX_TRIALS:,} trials: shorten it, or set sweep.num_trials")
    grid = [dict(zip(grids, values, strict=True)) for values in itertools.product(*grids.values())]
    number = recipe.sweep.num_trials
    if number is None:
        return grid
    rng = np.random.default_rng(recipe.seed)
    draws = {key: draw for key, draw in space.items() if isinstance(draw, Draw)}
    # Each point of the grid as often as any other, up to one.
    order = itertools.chain.from_iterable(rng.permutation(len(grid)) for _ in itertools.count())
    wanted = number if draws else min(number, len(grid))
    return [
        grid[place] | {key: _drawn(draw, rng) for key, draw in draws.items()}
        for place in itertools.islice(order, wanted)
    ]


def _drawn(draw: Draw, rng: np.random.Generator) -> Any:
    if draw.choice is not None:
        return draw.choice[int(rng.integers(len(draw.choice)))]
    if draw.uniform is not None:
        return float(rng.uniform(*draw.uniform))
    assert draw.log_uniform is not None
    low, high = draw.log_uniform
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _as_read(overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without those that this selector does not read: they would make the same trial twice."""
    selector = SELECTORS.find(str(overrides[SELECTOR]))
    read = {"selector", *selector.parameters} | ({"budget", *FOR_ANY} if selector.takes_budget else {"forbidden"})
    return {
        key: value for key, value in overrides.items()
        if not key.startswith("selection.") or key.split(".")[1] in read
    }


def _without_selection(overrides: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in overrides.items() if not key.startswith("selection.")}


def _at_least(seeds: list[int], number: int) -> list[int]:
    """Return the seeds, and the smallest others up to a number of them."""
    others = (seed for seed in itertools.count() if seed not in seeds)
    return [*seeds, *itertools.islice(others, max(0, number - len(seeds)))]


def _whole(seed: Any) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"sweep.space.seed: {seed!r} is no seed; seeds are whole numbers from 0")
    return seed


def _trial(recipe: Recipe, overrides: dict[str, Any], *, is_control: bool) -> Trial:
    tree = recipe.model_dump()
    tree["selection"]["controls"] = []  # they are trials of their own
    for key, value in _settings(overrides):
        _set(tree, key, value)
    try:
        found = parse_recipe(tree)
    except InputError as error:
        raise InputError(f"sweep.space, at {_name(overrides)}: {error}") from error
    return Trial(_name(overrides), overrides, found, is_control)


def _settings(overrides: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in overrides.items():
        yield from ((f"{part}.seed", value) for part in ("selection", "target")) if key == SEED else ((key, value),)


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    place: Any = tree
    for section in sections:
        inside = place.get(section) if isinstance(place, dict) else None
        if not isinstance(inside, dict):
            raise InputError(f"sweep.space: {key} is no key of the recipe: {section} holds no keys here")
        place = inside
    place[name] = value


def _name(overrides: dict[str, Any]) -> str:
    """Return the settings in short: s2l-b0.11-k50-seed1."""
    order = [SELECTOR, BUDGET, CLUSTERS, *(k for k in overrides if k not in _SHORT), SEED]
    parts: Iterable[str] = (
        f"{_SHORT.get(key, key.rsplit('.', 1)[-1])}{_short(overrides[key])}" for key in order if key in overrides
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _key(overrides: dict[str, Any]) -> str:
    return json.dumps(overrides, sort_keys=True)
