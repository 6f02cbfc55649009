"""What is compared: the arms of a run or of a sweep, in one form whichever it was."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from s2l_ray.config import Recipe
from s2l_ray.selectors import SELECTORS
from s2l_ray.storage import Storage

STAGES = ("select", "finetune", "evaluate")
CONTROLS = ("random", "stratified_random", "length_matched_random", "full")
_SEEDS = ("seed", "selection.seed", "target.seed")
_NOT_SETTINGS = (*_SEEDS, "selection.selector", "selection.budget", "selection.controls", "selection.scores")
_SHORT = {"selection.num_clusters": "K"}


@dataclass(frozen=True)
class Arm:
    """One selection with the target fine-tuned on it, under one seed."""

    storage: Storage
    run: str
    """Name of the run or sweep that it is of."""
    trial: str
    """Its name there: the trial's id, or the selector's name in a run."""
    selector: str
    budget: int | float | None
    """As asked for: rows, or a share of the pool; None for the whole pool."""
    seed: int
    is_control: bool
    state: str
    """finished, failed, waiting or stopped."""
    error: str | None = None
    reused: bool = False
    """Whether an earlier sweep had run it."""
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What else its recipe says that can change its outcome, by dotted key."""
    steps: tuple[Mapping[str, str], ...] = field(default=(), repr=False)
    """label, stage and fingerprint of the steps of its line."""

    def fingerprint(self, stage: str) -> str | None:
        """Return the fingerprint of its select, finetune or evaluate step, if its line goes that far."""
        found = [step for step in self.steps if step["stage"] == stage and step["label"] != "evaluate base"]
        return found[-1]["fingerprint"] if found else None


@dataclass(frozen=True)
class Point:
    """The arms that differ in nothing but the seed: one point of a budget curve."""

    label: str
    """The selector, with the settings that tell it from its other configurations: s2l (K=50)."""
    selector: str
    budget: int | float | None
    is_control: bool
    settings: Mapping[str, Any]
    """The settings that differ among the arms compared."""
    arms: tuple[Arm, ...]

    @property
    def finished(self) -> tuple[Arm, ...]:
        """Return the arms that have a result."""
        return tuple(arm for arm in self.arms if arm.state == "finished")


def arms_of_run(storage: Storage, record: Mapping[str, Any]) -> list[Arm]:
    """Return the arms of a run's record: the selection asked for and its controls."""
    recipe = Recipe.model_validate(record["recipe"])
    names = [recipe.selection.selector, *recipe.selection.controls]
    seed = recipe.seed if recipe.selection.seed is None else recipe.selection.seed
    upper = [step for step in record["steps"] if step["stage"] not in STAGES]
    arms = []
    for name in names:
        own = [step for step in record["steps"] if step["label"] in {f"{stage} {name}" for stage in STAGES}]
        if not own:
            continue
        last = own[-1]
        is_finished = storage.exists(f"{last['stage']}/{last['fingerprint']}/manifest.json")
        arms.append(Arm(
            storage, record["name"], name, name, None if name == "full" else recipe.selection.budget, seed,
            name in CONTROLS, "finished" if is_finished else "waiting", settings=_settings(recipe, name, {}),
            steps=(*upper, *own),
        ))
    return arms


def arms_of_sweep(storage: Storage, record: Mapping[str, Any]) -> list[Arm]:
    """Return the arms of a sweep's record: its trials."""
    recipe = Recipe.model_validate(record["recipe"])
    return [
        Arm(
            storage, record["name"], trial["trial"], trial["selector"],
            None if trial["selector"] == "full" else trial["budget"], trial["seed"],
            bool(trial["is_control"]) or trial["selector"] in CONTROLS, trial["state"], trial.get("error"),
            bool(trial.get("reused")), _settings(recipe, trial["selector"], trial["overrides"]),
            tuple(trial["steps"]),
        )
        for trial in record["trials"]
    ]


def _settings(recipe: Recipe, selector: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the recipe says, flat, without paths and without the other selectors' parameters."""
    identity = recipe.identity()
    del identity["evaluation"], identity["sweep"]  # measured on other tasks too, it is the same arm
    flat = {**_flat(identity), **_flat(overrides)}
    parameters = SELECTORS[selector].parameters if selector in SELECTORS else frozenset()
    own = {f"selection.{name}" for name in (*parameters, "per")}
    return {
        key: value for key, value in flat.items()
        if key not in _NOT_SETTINGS and (not key.startswith("selection.") or key in own)
    }


def _flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[f"{before}{key}"] = value
    return flat


def points_of(arms: Sequence[Arm]) -> list[Point]:
    """Group the arms into points, in their order; an arm that two records share counts once.

    Arms of one configuration, budget and seed that are nevertheless different artifacts (other model weights, for
    example) are told apart by the names of their runs.
    """
    varying = {selector: _varying([a for a in arms if a.selector == selector]) for selector in
               dict.fromkeys(arm.selector for arm in arms)}
    groups: dict[tuple, dict[int, Arm]] = {}
    for arm in arms:
        settings = {key: arm.settings.get(key) for key in varying[arm.selector]}
        label = _label(arm.selector, settings)
        for name in (label, f"{label} of {arm.run}", f"{label} of {arm.run}, {arm.trial}"):
            seeds = groups.setdefault((name, arm.budget, json.dumps(settings, sort_keys=True)), {})
            known = seeds.get(arm.seed)
            if known is None or _same(known, arm):
                seeds[arm.seed] = arm if known is None or known.state != "finished" else known
                break
    points = []
    for (label, budget, settings), seeds in groups.items():
        first = next(iter(seeds.values()))
        ordered = tuple(seeds[seed] for seed in sorted(seeds))
        points.append(Point(label, first.selector, budget, first.is_control, json.loads(settings), ordered))
    return points


def trained_alike(one: Point, other: Point) -> bool:
    """Tell whether two points differ in nothing but the selection."""
    keys = {key for point in (one, other) for key in point.settings if not key.startswith("selection.")}
    return all(one.arms[0].settings.get(key) == other.arms[0].settings.get(key) for key in keys)


def _varying(arms: Sequence[Arm]) -> list[str]:
    keys = dict.fromkeys(key for arm in arms for key in arm.settings)
    return [key for key in keys if len({json.dumps(arm.settings.get(key), sort_keys=True) for arm in arms}) > 1]


def _same(one: Arm, other: Arm) -> bool:
    return all(one.fingerprint(stage) == other.fingerprint(stage) for stage in STAGES)


def _label(selector: str, settings: Mapping[str, Any]) -> str:
    parts = [f"{_SHORT.get(key, key.removeprefix('selection.'))}={value}" for key, value in settings.items()]
    return f"{selector} ({', '.join(parts)})" if parts else selector
