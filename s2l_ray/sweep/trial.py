"""One trial, as it runs in a process of Ray Tune: the same line as any run, after the parts that all trials share."""

import math
from typing import Any

from ray import tune

from s2l_ray.pipeline import Line, plan_line, run_steps
from s2l_ray.sweep.space import Trial

SETTINGS, VALUE, ERROR = "settings", "value", "error"


def run_trial(config: dict[str, Any], points: dict[str, list[Trial]], metric: str, mode: str) -> None:
    """Run the trials of a point, one seed after another, and report the mean of the metric after each.

    A failure is reported and not raised: Tune would try it again, and it fails again. What Tune sees fail is a lost
    process, which is worth another try; finished steps are reused then.
    """
    values: list[float] = []
    for trial in points[config[SETTINGS]["trial"]]:
        try:
            line = plan_line(trial.recipe)
            run_steps(line.steps, line.recipe, line.storage)
        except Exception as error:
            worst = -math.inf if mode == "max" else math.inf
            tune.report({VALUE: worst, "seeds": len(values), ERROR: f"{trial.name}: {type(error).__name__}: {error}"})
            return
        metrics = metrics_of(line)
        values.append(metrics[metric])
        tune.report({VALUE: sum(values) / len(values), "seeds": len(values), **metrics})


def metrics_of(line: Line) -> dict[str, float]:
    """Return the value of each task's metrics, as {"TASK.METRIC": value}."""
    (selector,) = (step.label.removeprefix("select ") for step in line.steps if step.artifact.stage == "select")
    metrics = line.step(f"evaluate {selector}").artifact.manifest()["metrics"]
    return {f"{task}.{name}": found["value"] for task, by_name in metrics.items() for name, found in by_name.items()}
