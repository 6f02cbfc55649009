"""All that this project uses of Ray's private API; no other module of the package touches it.

Each function says which public way is missing. Seen to work with Ray 2.60; tests/execution/test_ray_internals.py and
tests/integration/test_ray_internals.py fail where a version has moved something, and say what to do about it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray._private import ray_constants
from ray._raylet import ActorID, GcsClient, PlacementGroupID  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import (  # type: ignore[attr-defined]
    AutoscalingState,
    GetClusterStatusReply,
)
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]

# To be called at each step of a Ray Data execution. The public way: none; `Dataset.stats()` is there only at the end.
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.util.placement_group import PlacementGroup

if TYPE_CHECKING:
    from ray.train import FailureConfig
    from ray.train.torch import TorchConfig

__all__ = [
    "ExecutionCallback", "abandoned_groups", "autoscaling_state", "checkpoints_record", "failure_config",
    "is_start_failure", "set_train_times", "torch_backend", "worker_set_up",
]


def autoscaling_state() -> AutoscalingState:
    """Return what the autoscaler last reported; version 0 where there is none.

    The public way: `ray status` prints a text, and `ray.autoscaler.sdk` only requests; neither says which requests
    are infeasible or which nodes are being started.
    """
    reply = GetClusterStatusReply()
    reply.ParseFromString(GcsClient(ray.get_runtime_context().gcs_address).get_cluster_status(timeout_s=10))
    return reply.autoscaling_state


def abandoned_groups() -> list[PlacementGroup]:
    """Return this driver's placement groups whose maker, an actor, died: Ray keeps them until the driver ends.

    The public way: `placement_group_table()` leaves out who made a group and whether that actor is alive.
    """
    job = ray.get_runtime_context().job_id.binary()
    found = []
    for packed in ray._private.state.state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(packed)
        is_ours = group.creator_job_id == job and not group.is_detached
        maker_died = not ActorID(group.creator_actor_id).is_nil() and group.creator_actor_dead
        if is_ours and maker_died and group.state != PlacementGroupTableData.REMOVED:
            found.append(PlacementGroup(PlacementGroupID(group.placement_group_id)))
    return found


def failure_config(max_failures: int, max_preemption_failures: int) -> "FailureConfig":
    """Return how often Ray Train starts lost workers again itself (-1: always), and a lost controller never.

    The public way: `FailureConfig(max_failures=...)` alone, which counts a spot node taken away as a failure and
    repeats a controller that fails.
    """
    from ray.train import FailureConfig  # heavy: workers of Ray Data load this module too, and need no Ray Train

    return FailureConfig(  # type: ignore[call-arg]
        max_failures=max_failures, controller_failure_limit=0, max_preemption_failures=max_preemption_failures,
    )


def is_start_failure(error: BaseException, *, for_want_of_room: bool = True) -> bool:
    """Return whether a group of training workers could not be started: a node was lost, or there was no room in time.

    The public way: `ControllerError` alone, which does not say what failed.
    """
    # Heavy, as above.
    from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError

    kinds = (WorkerGroupStartupFailedError, *((WorkerGroupStartupTimeoutError,) if for_want_of_room else ()))
    return isinstance(error, kinds)


def set_train_times(start_timeout_s: float, poll_s: float) -> None:
    """Set how long the next training's workers may take to start, and how often its controller looks at them.

    The public way: none; Ray's defaults are 60 s and 2 s. It takes in one report a look, so that a short training with
    a few checkpoints ended seconds after its last step.
    """
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(start_timeout_s)
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(poll_s)


def checkpoints_record() -> str:
    """Return the name of the file below a training's folder in which Ray Train keeps which checkpoints there are.

    The public way: none; it is read when a training goes on, which ends if the file was cut off by a full disk.
    """
    # Heavy, as above.
    from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    return str(CHECKPOINT_MANAGER_SNAPSHOT_FILENAME)


def torch_backend(config: "TorchConfig") -> Any:
    """Return the class that sets up a process group, to extend it. The public way: none; it takes no hook."""
    return config.backend_cls


@contextlib.contextmanager
def worker_set_up(script: Path) -> Iterator[str]:
    """Have clusters that are started in the block set their workers up by a script; yields the path of Ray's own.

    The public way: none; a runtime environment comes after this step, and every worker loads its libraries itself.
    """
    before = ray_constants.SETUP_WORKER_FILENAME
    ray_constants.SETUP_WORKER_FILENAME = str(script)  # Ray joins it to its folder: an absolute path stays as it is
    try:
        yield str(Path(ray_constants.__file__).parent / "workers" / before)
    finally:
        ray_constants.SETUP_WORKER_FILENAME = before
