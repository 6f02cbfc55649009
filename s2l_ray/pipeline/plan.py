"""What a recipe needs, step by step, before anything runs."""

from dataclasses import dataclass

from s2l_ray.pipeline.feasibility import check_files, check_pool
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.stages.planning import Planning, Step
from s2l_ray.stages.table import STAGES
from s2l_ray.storage.files import Storage


@dataclass(frozen=True)
class RunPlan:
    """The steps of a recipe in the order they run; each step's inputs come before it."""

    recipe: Recipe
    storage: Storage
    steps: tuple[Step, ...]

    def step(self, stage: str, of: str | None = None) -> Step:
        """Return a stage's step, of an arm, a task or a probe where the stage has several."""
        return next(step for step in self.steps if (step.stage.name, step.of) == (stage, of))

    @property
    def folder(self) -> str:
        """Return the run's folder in the storage."""
        return f"runs/{self.recipe.name}"

    @property
    def is_finished(self) -> bool:
        """Tell whether every step is there."""
        return all(step.artifact.is_finished for step in self.steps)

    def check(self) -> None:
        """Refuse what the pool is too small for, as far as its size is known by now."""
        check_pool(self.recipe, self.steps)


def plan_run(recipe: Recipe, until: str = STAGES[-1].name) -> RunPlan:
    """Work out every step up to a stage, with its fingerprint.

    Raises
    ------
    InputError
        Anything that can be known now to be wrong: the storage, data files, models that are not there, selectors, a
        budget or number of clusters above the number of rows. What takes loading is refused by `check_work`.
    """
    storage = Storage.open(recipe.storage)
    for model in recipe.models().values():
        check_files(model)
    plan = RunPlan(recipe, storage, tuple(Planning(recipe, storage).plan_until(until)))
    plan.check()
    return plan
