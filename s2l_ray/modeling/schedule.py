"""How long a training runs and where it is recorded; known before any worker starts, without torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.modeling.checkpoints import find_checkpoints, fractions_of
from s2l_ray.modeling.tracked import Tracked
from s2l_ray.recipe.scoring import TrajectoryConfig
from s2l_ray.recipe.training import TrainingConfig
from s2l_ray.storage.files import Storage

TRAINED_ON = ["example_id", "input_ids", "supervised"]
"""Columns of the examples that a model sees."""


ORDER_FILE = "order.parquet"
"""Beside the model: example_id in the order of every epoch, where that is not drawn."""


@dataclass(frozen=True)
class TrajectoryPoint:
    """One recorded state of the proxy: its optimizer step and the fraction of training done by then."""

    step: int
    fraction: float

    @property
    def record(self) -> dict[str, float]:
        """Return what tables and manifests say of it."""
        return {"step": self.step, "fraction": self.fraction}

    @property
    def folder(self) -> str:
        """Return the folder of its weights; zero-padded so that names sort by time."""
        return f"point-{self.step:08d}"


@dataclass(frozen=True)
class TrainingPlan:
    """How long a training runs and where it is recorded."""

    total_steps: int
    points: tuple[TrajectoryPoint, ...]


def plan_training(
    config: TrainingConfig, num_examples: int, trajectory: TrajectoryConfig | None = None
) -> TrainingPlan:
    """Work out steps and trajectory points; the same for any number of workers.

    With `trajectory.checkpoints` these are the points, their fraction that of `fractions_of`, and no step is left.

    Raises
    ------
    InputError
        There are fewer optimizer steps than trajectory points; or see `find_checkpoints`.
    """
    if trajectory is not None and trajectory.checkpoints is not None:
        steps = [checkpoint.step for checkpoint in find_checkpoints(trajectory.checkpoints)]
        fractions = fractions_of(trajectory.checkpoints, steps)
        return TrainingPlan(0, tuple(map(TrajectoryPoint, steps, fractions)))
    steps_per_epoch = math.ceil(num_examples / config.global_batch_size)
    total = config.max_steps or math.ceil(steps_per_epoch * (config.epochs or 0))
    if trajectory is None:
        return TrainingPlan(total, ())
    if trajectory.num_points > total:
        raise InputError(
            f"trajectory.num_points={trajectory.num_points} exceeds the proxy's {total} optimizer steps "
            f"({num_examples} examples, global_batch_size {config.global_batch_size}): train longer or record fewer"
        )
    fractions = [i / trajectory.num_points for i in range(1, trajectory.num_points + 1)]
    points = [TrajectoryPoint(round(total * fraction), fraction) for fraction in fractions]
    if trajectory.include_initial:
        points.insert(0, TrajectoryPoint(0, 0.0))
    return TrainingPlan(total, tuple(points))


class Examples(Protocol):
    """What is trained on, by id: `input_ids` and `supervised` of each."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Mapping[str, np.ndarray]: ...


class PointWatch(Protocol):
    """Says when a training's points are enough."""

    def is_enough(self, run: "TrainingRun", examples: Examples, point: TrajectoryPoint) -> bool:
        """Tell whether the training may end at this point, whose weights are in the storage as the earlier ones' are.

        It is asked on the first process, at every point after the start but the last.
        """
        ...


@dataclass(frozen=True)
class TrainingRun:
    """Everything a worker needs to know; it is sent to each."""

    name: str
    """What people see beside the progress."""
    config: TrainingConfig
    plan: TrainingPlan
    seed: int
    storage: Storage
    folder: str
    """The artifact's folder in the storage: points, the finished model and resume checkpoints go below it."""
    cpus_per_worker: int
    use_gpu: bool
    tracked: Tracked | None = None
    """How trackers show it."""
    watch: PointWatch | None = None
    """What may end it before its last step."""
