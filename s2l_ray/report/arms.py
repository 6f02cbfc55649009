"""What is compared: the arms of a run or of a sweep, in one form whichever it was."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import FOR_ANY
from s2l_ray.results.record import Record
from s2l_ray.selectors.selector import Control, Selector
from s2l_ray.stages.table import STAGES
from s2l_ray.storage.artifacts import is_finished
from s2l_ray.storage.files import Storage

_OWN = [stage.name for stage in STAGES if stage.is_per_arm]
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
        found = [step for step in self.steps if step["stage"] == stage and step.get("arm") is not None]
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
    def control(self) -> Control | None:
        """Return what its selector stands for where others are judged against it."""
        facts = facts_of(self.selector)
        return facts.control if facts else None

    @property
    def finished(self) -> tuple[Arm, ...]:
        """Return the arms that have a result."""
        return tuple(arm for arm in self.arms if arm.state == "finished")


def facts_of(selector: str) -> Selector | None:
    """Return a selector by its name in a record; None for one that is not installed here."""
    return SELECTORS.get(selector)


def _is_control(selector: str) -> bool:
    facts = facts_of(selector)
    return facts is not None and facts.control is not None


def _budget(selector: str, budget: int | float | None) -> int | float | None:
    facts = facts_of(selector)
    return None if facts is not None and not facts.takes_budget else budget


def arms_of(record: Record) -> list[Arm]:
    """Return the arms of a record: a sweep's trials, or a run's selection and its controls."""
    recipe = Recipe.model_validate(record.content["recipe"])
    if record.is_sweep:
        return [_arm_of_trial(record, recipe, trial) for trial in record.content["trials"]]
    return [arm for name in recipe.arms if (arm := _arm_of_run(record, recipe, name)) is not None]


def _arm_of_run(record: Record, recipe: Recipe, name: str) -> Arm | None:
    own = [step for step in record.steps if step.get("arm") == name]
    if not own:
        return None
    upper = [step for step in record.steps if step["stage"] not in _OWN]
    is_done = is_finished(record.storage, own[-1]["stage"], own[-1]["fingerprint"])
    return Arm(
        record.storage, record.name, name, name, _budget(name, recipe.selection.budget), recipe.selection_seed,
        _is_control(name), "finished" if is_done else "waiting",
        settings=_settings(recipe, name, {}), steps=(*upper, *own),
    )


def _arm_of_trial(record: Record, recipe: Recipe, trial: Mapping[str, Any]) -> Arm:
    selector = trial["selector"]
    return Arm(
        record.storage, record.name, trial["trial"], selector, _budget(selector, trial["budget"]), trial["seed"],
        bool(trial["is_control"]) or _is_control(selector), trial["state"], trial.get("error"),
        bool(trial.get("reused")), _settings(recipe, selector, trial["overrides"]), tuple(trial["steps"]),
    )


def _settings(recipe: Recipe, selector: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the recipe says, flat, without paths and without the other selectors' parameters."""
    identity = recipe.identity(with_defaults=True)
    del identity["evaluation"], identity["sweep"]  # measured on other tasks too, it is the same arm
    flat = {**_flat(identity), **_flat(overrides)}
    facts = facts_of(selector)
    own = {f"selection.{name}" for name in (*(facts.parameters if facts else ()), *FOR_ANY)}
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
    return all(one.fingerprint(stage) == other.fingerprint(stage) for stage in _OWN)


def _label(selector: str, settings: Mapping[str, Any]) -> str:
    parts = [f"{_SHORT.get(key, key.removeprefix('selection.'))}={value}" for key, value in settings.items()]
    return f"{selector} ({', '.join(parts)})" if parts else selector
