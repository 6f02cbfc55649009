"""What is known of a sweep's trials, as records and tables that outlive it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from s2l_ray.pipeline.plan import RunPlan
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.stages.planning import Step
from s2l_ray.storage.files import Storage
from s2l_ray.sweep.space import BUDGET, CLUSTERS, Trial

TRIALS = pa.schema(
    [
        ("trial", pa.string()),
        ("selector", pa.string()),
        ("budget", pa.float64()),
        ("num_clusters", pa.string()),
        ("seed", pa.int64()),
        ("is_control", pa.bool_()),
        ("overrides", pa.string()),
        ("state", pa.string()),
        ("error", pa.string()),
        ("reused", pa.bool_()),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("rows", pa.int64()),
        ("wall_s", pa.float64()),
        ("gpu_s", pa.float64()),
        ("select", pa.string()),
        ("finetune", pa.string()),
        ("evaluate", pa.string()),
    ]
)
"""trials.parquet; the last three are fingerprints, seconds are of the trial's own steps, as first computed."""


@dataclass
class Sweep:
    """A sweep, while it runs and afterwards."""

    recipe: Recipe
    trials: list[Trial]
    plans: Mapping[str, RunPlan]
    metric: str
    mode: str
    shared: list[Step]
    """The steps that are made once for all trials."""
    command: str
    commit: str | None
    started: float
    reused: set[str]
    """Trials that an earlier sweep finished."""
    wall_s: float | None = None
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def storage(self) -> Storage:
        """Return where everything is kept."""
        return next(iter(self.plans.values())).storage

    @property
    def folder(self) -> str:
        """Return the sweep's folder in the storage."""
        return f"sweeps/{self.recipe.name}"

    def all_steps(self) -> list[Step]:
        """Return the shared steps, then those of the trials, each once."""
        steps = [*self.shared, *(step for plan in self.plans.values() for step in plan.steps)]
        return list({step.artifact.fingerprint: step for step in steps}.values())

    def check(self) -> None:
        """Refuse what the pool is too small for, in any trial."""
        for plan in self.plans.values():
            plan.check()

    def fail(self, names: list[str], error: str) -> None:
        """Note why the first trial of these that is not finished is not."""
        broken = next((name for name in names if self.state(name) != "finished"), None)
        if broken is not None:
            self.errors[broken] = error

    def state(self, name: str) -> str:
        """Return finished, failed, stopped (given up by the scheduler, or by hand) or waiting."""
        if self.plans[name].is_finished:
            return "finished"
        if name in self.errors:
            return "failed"
        return "waiting" if self.wall_s is None else "stopped"

    def write(self) -> None:
        """Write `sweep.json`."""
        self.storage.write_json(f"{self.folder}/sweep.json", {
            "name": self.recipe.name, "recipe": self.recipe.model_dump(), "command": self.command,
            "git_commit": self.commit, "started": self.started, "wall_s": self.wall_s, "metric": self.metric,
            "mode": self.mode, "shared": [step.record for step in self.shared], "num_trials": len(self.trials),
            "trials": [self._trial(trial) for trial in self.trials],
        })

    def _trial(self, trial: Trial) -> dict[str, Any]:
        selection = trial.recipe.selection
        reads = trial.overrides
        return {
            "trial": trial.name, "overrides": trial.overrides, "selector": selection.selector,
            "budget": selection.budget if BUDGET in reads else 1.0,
            "num_clusters": selection.num_clusters if CLUSTERS in reads else None, "seed": trial.seed,
            "is_control": trial.is_control, "state": self.state(trial.name), "error": self.errors.get(trial.name),
            "reused": trial.name in self.reused, "steps": [step.record for step in self.plans[trial.name].steps],
        }

    def table(self) -> pa.Table:
        """Return the trials as TRIALS."""
        return pa.Table.from_pylist([self._row(trial) for trial in self.trials], schema=TRIALS)

    def _row(self, trial: Trial) -> dict[str, Any]:
        about = self._trial(trial)
        own = [step for step in self.plans[trial.name].steps if step.arm is not None]
        manifests = {step.stage.name: step.artifact.manifest() for step in own if step.artifact.is_finished}
        metrics = {
            f"{task}.{name}": found["value"]
            for task, by_name in manifests.get("evaluate", {}).get("metrics", {}).items()
            for name, found in by_name.items()
        } if about["state"] == "finished" else {}
        training = manifests.get("finetune", {})
        gpus = max(training["num_workers_used"]) if training and training["resources"]["use_gpu"] else 0
        return {
            **{name: about[name] for name in ("trial", "selector", "seed", "is_control", "state", "error", "reused")},
            "budget": float(about["budget"]),
            "num_clusters": None if about["num_clusters"] is None else str(about["num_clusters"]),
            "overrides": json.dumps(trial.overrides, sort_keys=True),
            "metrics": list(metrics.items()),
            "rows": manifests["select"]["rows"]["selected"] if "select" in manifests else None,
            "wall_s": sum(manifest["wall_s"] for manifest in manifests.values()),
            "gpu_s": float(gpus * training.get("wall_s", 0.0)),
            **{step.stage.name: step.artifact.fingerprint for step in own},
        }
