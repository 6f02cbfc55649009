"""What a run would do, where, and whether the cluster is fit for it, without doing it."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from s2l_ray.execution.bundles import describe_total, training_bundles
from s2l_ray.pipeline.run import ready_place
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.recipe.workers import Workers
from s2l_ray.stages.planning import Step
from s2l_ray.storage.files import Storage


def dry_run(steps: Sequence[Step], recipe: Recipe, storage: Storage) -> dict[str, Any]:
    """Return the steps that are finished and those that would run, on what, after every check that comes before work.

    Raises
    ------
    InputError
        What a real run would be refused for before it starts.
    """
    with ready_place(steps, recipe, storage, ask=False) as place:
        return {
            "run": recipe.name, "storage": storage.uri, "cluster": place.describe(),
            "steps": [
                {"label": step.label, "folder": step.artifact.folder, "state": _state(step, storage),
                 "where": _where(step.workers, recipe.resources)} for step in steps
            ],
        }


def table_of(plan: dict[str, Any]) -> Table:
    """Return the plan for people."""
    table = Table(title=f"dry run of {plan['run']} on {plan['cluster']}", title_justify="left")
    for heading in ("step", "", "on", "artifact"):
        table.add_column(heading)
    for step in plan["steps"]:
        where = "" if step["state"] == "finished" else step["where"]
        table.add_row(step["label"], step["state"], where, step["folder"])
    return table


def _state(step: Step, storage: Storage) -> str:
    if step.artifact.is_finished:
        return "finished"
    return "goes on" if storage.exists(step.artifact.folder) else "runs"


def _where(workers: Workers, resources: ResourcesConfig) -> str:
    if workers == "none":
        return "one process"
    if workers == "training":
        bundles = training_bundles(resources)
        more = f", up to {resources.max_workers}" if resources.max_workers > len(bundles) else ""
        return f"{len(bundles)} training workers{more}, {describe_total(bundles)} in all"
    bound = resources.num_scoring_workers
    most = f"at most {bound}" if bound else "as many as there is room for"
    each = "1 GPU and 1 CPU" if resources.use_gpu and workers == "scoring" else "1 CPU"
    return f"workers of {each}, {most}"
