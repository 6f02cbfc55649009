"""What a recipe's run consists of, worked out by asking: each table's stage plans its step, after asking for its own.

A stage's module has two functions for this: `plan(planning, table, of)` returns the step that makes one of its tables,
and, where it is not simply all of them for every selection, `outputs(planning)` says which a run up to it makes.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.recipe.workers import Workers
from s2l_ray.stages.table import STAGES, Stage, stage_of
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage
from s2l_ray.tables.needs import Need

FOR_TARGET, FOR_EMBEDDING, FOR_SAMPLING = "for target", "for embedding", "for sampling"
"""Whose tokenizer examples are seen through, where it is not the proxy's."""
BASE = "base"
"""The target as it is before fine-tuning, where it is evaluated."""


def of_task(name: str) -> str:
    """Return what the examples of a task are called among those of others."""
    return f"task {name}"


def of_wanted(name: str) -> str:
    """Return what the solved examples of a wanted task are called."""
    return f"wanted {name}"


Output = tuple[str, str | None]
"""A table, and what of it: an arm, a task, whose examples."""


@dataclass(frozen=True)
class Step:
    """One artifact of a run and the function that makes it."""

    stage: Stage
    artifact: Artifact
    run: Callable[[], dict[str, Any]]
    """Makes the artifact and returns its manifest."""
    of: str | None = None
    """Which of the stage's steps it is: a selector's name, a task, a probe; None where there is one alone."""
    check: Callable[[], None] | None = None
    """Refuses, before anything runs, what is known to fail."""
    most_rows: int | None = None
    """Examples that it can give at most, where that is known before it has run."""
    runs_on: Workers | None = None
    """What it runs on where that is not its stage's."""

    @property
    def workers(self) -> Workers:
        """Return what it runs on."""
        return self.runs_on or self.stage.workers

    @property
    def label(self) -> str:
        """Return its name in a run."""
        return f"{self.stage.name} {self.of}" if self.of else self.stage.name

    @property
    def arm(self) -> str | None:
        """Return the selector whose own step it is; None for what all selections share."""
        return self.of if self.stage.is_per_arm and self.of != BASE else None

    @property
    def record(self) -> dict[str, str | None]:
        """Return what a run's record keeps of it."""
        return {"label": self.label, "stage": self.stage.name, "arm": self.arm,
                "fingerprint": self.artifact.fingerprint}


class Planning:
    """The steps of a recipe, as far as they were asked for."""

    def __init__(self, recipe: Recipe, storage: Storage) -> None:
        self.recipe, self.storage = recipe, storage
        self._steps: dict[Output, Step] = {}

    @property
    def arms(self) -> dict[str, SelectionConfig]:
        """Return the selection asked for, then its controls, by selector."""
        return self.recipe.arms

    @property
    def needs(self) -> frozenset[Need]:
        """Return what the selectors ask for."""
        return frozenset[Need]().union(*(SELECTORS.find(name).needs for name in self.arms))

    def step(self, table: str, of: str | None = None) -> Step:
        """Return the step that makes a table, planned with all that it needs. Equal artifacts have one step."""
        key = (table, of)
        if key not in self._steps:
            stage = next(stage for stage in STAGES if table in stage.gives)
            made: Step = module_of(stage).plan(self, table, of)
            same = (step for step in self._steps.values() if step.artifact.fingerprint == made.artifact.fingerprint)
            self._steps[key] = next(same, made)
        return self._steps[key]

    def artifact(self, table: str, of: str | None = None) -> Artifact:
        """Return the artifact of a table, as `step`."""
        return self.step(table, of).artifact

    def plan_until(self, stage: str) -> list[Step]:
        """Plan all that a run up to a stage makes; return every step so far, in the order in which they run."""
        asked = stage_of(stage)
        outputs = getattr(module_of(asked), "outputs", None)
        for table, of in outputs(self) if outputs else self.all_outputs(asked):
            self.step(table, of)
        return self.steps()

    def all_outputs(self, stage: Stage) -> list[Output]:
        """Return all tables of a stage, for every selection where it has its own."""
        return [(table, of) for of in (self.arms if stage.is_per_arm else (None,)) for table in stage.gives]

    def steps(self) -> list[Step]:
        """Return the steps by stage: all selections before the first training."""
        each = list({step.artifact.fingerprint: step for step in self._steps.values()}.values())
        return sorted(each, key=lambda step: STAGES.index(step.stage))


def module_of(stage: Stage) -> Any:
    """Return a stage's module, which says how it is planned, run and what it takes."""
    return importlib.import_module(f"s2l_ray.stages.{stage.name}")  # heavy: each brings what it runs on
