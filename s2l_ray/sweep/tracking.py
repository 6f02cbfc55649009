"""What people see of a sweep while it runs, and the trackers that log its trials."""

import os
import time
from typing import Any

from ray import tune
from ray.tune.logger import TBXLoggerCallback

from s2l_ray.execution.trackers import check_trackers
from s2l_ray.progress.notes import note
from s2l_ray.progress.wording import clock
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.sweep.trial import ERROR, SETTINGS, TRIAL, VALUE

_INTERVAL_S = 30.0


def check_tracking(recipe: Recipe) -> None:
    """Refuse a tracker that is not installed or not told where to go, before anything runs."""
    check_trackers("sweep.tracking", [recipe.sweep.tracking])


def callbacks_of(recipe: Recipe, narrator: "Narrator") -> list[tune.Callback]:
    """Return TensorBoard's files, the tracker that the recipe asks for, and progress."""
    callbacks: list[tune.Callback] = [TBXLoggerCallback(), narrator]
    if recipe.sweep.tracking == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback  # optional: MLflow

        uri = os.environ["MLFLOW_TRACKING_URI"]
        callbacks.append(MLflowLoggerCallback(tracking_uri=uri, experiment_name=recipe.name))
    if recipe.sweep.tracking == "wandb":
        from ray.air.integrations.wandb import WandbLoggerCallback  # optional: Weights & Biases

        callbacks.append(WandbLoggerCallback(project=recipe.name))
    return callbacks


class Narrator(tune.Callback):
    """Says what each trial came to, and now and then how far the sweep is."""

    def __init__(self, metric: str, mode: str, total: int, reused: set[str], room: str, finished: Any) -> None:
        """Take what to say it with.

        Parameters
        ----------
        total, reused
            Number of trials of the sweep, and the names of those that an earlier one ran.
        room
            How many fit at a time, and why no more.
        finished
            Called after each report, so that the sweep's record follows.
        """
        self._metric, self._mode, self._total = metric, mode, total
        self._room, self._finished = room, finished
        self._started = self._spoken = time.monotonic()
        self._ended, self._num_reused = set(reused), len(reused)
        self._best: tuple[float, str] | None = None

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Say what a trial (or one of its seeds) came to."""
        name = trial.config[SETTINGS]["trial"]
        # A point's seeds are reported one by one, also those that an earlier sweep finished: by name, each counts once.
        self._ended.add(result.get(TRIAL, name))
        self._finished()
        others = [other for other in trials if other is not trial]
        if ERROR in result:
            note(f"sweep: FAILED {result[ERROR]}  ({self._counts(others)})")
            return
        value = result[VALUE]
        if self._best is None or (value > self._best[0]) == (self._mode == "max"):
            self._best = (value, name)
        seeds = f" over {result['seeds']} seeds" if result["seeds"] > 1 else ""
        note(f"sweep: {name}: {self._metric} {value:.4f}{seeds}  ({self._counts(others)})")
        self._spoken = time.monotonic()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say that a trial's process was lost more often than is tried again."""
        note(f"sweep: FAILED {trial.config[SETTINGS]['trial']}: its process was lost  ({self._counts(trials)})")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Say now and then how far the sweep is."""
        if time.monotonic() - self._spoken >= _INTERVAL_S:
            self._spoken = time.monotonic()
            note(f"sweep: {self._counts(trials)}")

    def _counts(self, trials: list[Any]) -> str:
        done, fresh = len(self._ended), len(self._ended) - self._num_reused
        running = [trial.config[SETTINGS]["trial"] for trial in trials if trial.status == "RUNNING"]
        elapsed, left = time.monotonic() - self._started, self._total - done
        waiting = max(0, left - len(running))
        eta = clock(elapsed / fresh * left) if fresh else "unknown"
        parts = [
            f"{done}/{self._total} trials done", f"running: {', '.join(running) or 'none'}",
            f"{waiting} waiting ({self._room})" if waiting else "",
            f"best {self._best[0]:.4f} {self._best[1]}" if self._best else "", f"ETA {eta}" if left > 0 else "",
        ]
        return ", ".join(part for part in parts if part)
