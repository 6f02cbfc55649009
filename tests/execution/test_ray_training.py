"""After which failures a training on Ray goes on by itself: .venv/bin/pytest tests/execution/test_ray_training.py"""

import pytest
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from s2l_ray.execution.ray_training import _may_go_on

CASES = {  # what failed -> (whether a fixed number of workers goes on, whether a range of them does)
    "the controller's process": (ActorDiedError(), (True, True)),
    "a node while workers start": (ControllerError(WorkerGroupStartupFailedError("it died")), (True, True)),
    "a node with an actor of the controller's": (ControllerError(ActorDiedError()), (True, True)),
    "room in time": (ControllerError(WorkerGroupStartupTimeoutError(2)), (False, True)),
    "a worker, which Train starts again for a fixed number": (WorkerGroupError("lost", {0: RuntimeError("x")}), (False, True)),
    "the controller's own code": (ControllerError(ValueError("a bug")), (False, False)),
}


@pytest.mark.parametrize("what", CASES)
def test_a_lost_node_is_no_end_and_what_would_fail_again_is(what):
    error, expected = CASES[what]
    assert tuple(_may_go_on(error, is_elastic=is_elastic) for is_elastic in (False, True)) == expected
