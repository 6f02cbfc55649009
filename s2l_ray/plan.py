"""What a run would do, where, and whether the cluster is fit for it, without doing it."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from s2l_ray.config import Recipe, ResourcesConfig
from s2l_ray.execution.cluster import ray_session
from s2l_ray.execution.preflight import local_inputs
from s2l_ray.execution.room import say_total, training_bundles
from s2l_ray.pipeline import Step, check_first
from s2l_ray.storage import Storage


def dry_run(steps: Sequence[Step], recipe: Recipe, storage: Storage) -> dict[str, Any]:
    """Return the steps that are finished and those that would run, on what, after every check that comes before work.

    Raises
    ------
    InputError
        What a real run would be refused for before it starts.
    """
    with ray_session(recipe.resources, storage, local_inputs(recipe)) as cluster:
        check_first(steps, cluster, ask=False)
        return {
            "run": recipe.name, "storage": storage.uri, "cluster": cluster.describe(),
            "steps": [
                {"label": step.label, "folder": step.artifact.folder, "state": _state(step, storage),
                 "where": _where(step.artifact.stage, recipe.resources)} for step in steps
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


def _where(stage: str, resources: ResourcesConfig) -> str:
    if stage == "select":
        return "one process"
    if stage in ("proxy", "finetune"):
        bundles = training_bundles(resources)
        more = f", up to {resources.most_workers}" if stage == "proxy" and resources.most_workers > len(bundles) else ""
        return f"{len(bundles)} training workers{more}, {say_total(bundles)} in all"
    bound = resources.num_scoring_workers
    most = f"at most {bound}" if bound else "as many as there is room for"
    each = "1 GPU and 1 CPU" if resources.use_gpu and stage != "prepare" else "1 CPU"
    return f"workers of {each}, {most}"
