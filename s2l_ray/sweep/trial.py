"""One trial, as it runs in a process of Ray Tune: the same line as any run, after the parts that all trials share."""

import contextlib
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ray import tune

from s2l_ray.errors import InputError
from s2l_ray.execution.local.machine import machine_session
from s2l_ray.pipeline.plan import RunPlan, plan_run
from s2l_ray.pipeline.run import run_steps
from s2l_ray.sweep.space import Trial

SETTINGS, TRIAL, VALUE, ERROR = "settings", "finished", "value", "error"


def run_trial(
    config: dict[str, Any], points: dict[str, list[Trial]], metric: str, mode: str, is_alone: bool, server: Path | None
) -> None:
    """Run the trials of a point, one seed after another, and report the mean of the metric after each.

    A failure is reported and not raised: Tune would try it again, and it fails again. What Tune sees fail is a lost
    process, which is worth another try; finished steps are reused then.

    Parameters
    ----------
    is_alone
        Whether what it trains and scores runs on this machine alone, beside Ray.
    server
        Address of the server that forks its workers then.
    """
    values: list[float] = []
    for trial in points[config[SETTINGS]["trial"]]:
        try:
            plan = plan_run(trial.recipe)
            with machine_session(plan.storage, (), server) if is_alone else contextlib.nullcontext():
                run_steps(plan.steps, plan.recipe, plan.storage)
            metrics = metrics_of(plan)
            check_measured(metric, metrics)
        except Exception as error:
            worst = -math.inf if mode == "max" else math.inf
            message = f"{trial.name}: {type(error).__name__}: {error}"
            tune.report({TRIAL: trial.name, VALUE: worst, "seeds": len(values), ERROR: message})
            return
        values.append(metrics[metric])
        tune.report({TRIAL: trial.name, VALUE: sum(values) / len(values), "seeds": len(values), **metrics})


def check_measured(metric: str, metrics: Collection[str]) -> None:
    """Refuse a metric that no evaluation has: of a harness's task it is known only then."""
    if metric not in metrics:
        raise InputError(f"sweep.metric={metric!r} was not measured for each example; measured: {sorted(metrics)}")


def metrics_of(plan: RunPlan) -> dict[str, float]:
    """Return the value of each task's metrics, as {"TASK.METRIC": value}."""
    metrics = plan.step("evaluate", plan.recipe.selection.selector).artifact.manifest()["metrics"]
    return {f"{task}.{name}": found["value"] for task, by_name in metrics.items() for name, found in by_name.items()}
