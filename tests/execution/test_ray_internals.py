"""Canaries of Ray's private API, without a cluster: .venv/bin/pytest tests/execution/test_ray_internals.py

Where one fails after an update of Ray, the sentence says what to do. With a cluster: tests/integration.
"""

import inspect
import os

import pytest
import ray
import ray.train
from ray.train.torch import TorchConfig

REMEDY = ("adapt it in s2l_ray/execution/ray_internals.py, or, where Ray has a public way by now, use that where it is "
          "called and delete it there")


def internals():
    """Import the module, whose imports are canaries too."""
    try:
        from s2l_ray.execution import ray_internals
    except ImportError as error:
        pytest.fail(f"Ray {ray.__version__} has moved what ray_internals imports ({error}): {REMEDY}")
    return ray_internals


def test_what_is_imported_is_there():
    assert inspect.isclass(internals().ExecutionCallback)


def test_each_step_of_a_data_execution_can_be_watched():
    steps = [name for name in dir(internals().ExecutionCallback) if name == "on_execution_step"]
    assert steps, f"Ray {ray.__version__} has no ExecutionCallback.on_execution_step, which work_units uses: {REMEDY}"
    from ray.data import DataContext

    assert hasattr(DataContext.get_current(), "custom_execution_callback_classes"), (
        f"Ray {ray.__version__} has no DataContext.custom_execution_callback_classes, which work_units sets: {REMEDY}")


def test_train_can_be_kept_from_repeating_a_lost_controller():
    try:
        config = internals().failure_config(3, -1)
    except TypeError as error:
        pytest.fail(f"Ray {ray.__version__}'s FailureConfig takes other arguments ({error}): {REMEDY}")
    given = (config.max_failures, config.controller_failure_limit, config.max_preemption_failures)
    assert given == (3, 0, -1), f"Ray {ray.__version__}'s FailureConfig keeps {given}: {REMEDY}"
    assert isinstance(config, ray.train.FailureConfig)


def test_a_group_that_cannot_start_is_told_from_other_failures():
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    try:
        error = WorkerGroupStartupTimeoutError(2)
    except TypeError as change:
        pytest.fail(f"Ray {ray.__version__} makes WorkerGroupStartupTimeoutError otherwise ({change}): {REMEDY}")
    assert internals().is_start_failure(error) and not internals().is_start_failure(error, for_want_of_room=False)
    assert not internals().is_start_failure(ValueError("of the training function"))


@pytest.mark.parametrize(("constant", "variable", "value"), [
    ("WORKER_GROUP_START_TIMEOUT_S_ENV_VAR", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "7.5"),
    ("HEALTH_CHECK_INTERVAL_S_ENV_VAR", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25"),
])
def test_the_times_are_what_ray_train_reads(monkeypatch, constant, variable, value):
    from ray.train.v2._internal import constants

    monkeypatch.delenv(variable, raising=False)
    internals().set_train_times(7.5, 0.25)
    assert os.environ[variable] == value
    assert getattr(constants, constant, None) == variable, f"Ray {ray.__version__} reads another one: {REMEDY}"
    assert variable in constants.ENV_VARS_TO_PROPAGATE, f"Ray {ray.__version__} does not pass it on: {REMEDY}"


def test_the_set_up_of_a_process_group_can_be_extended():
    backend = internals().torch_backend(TorchConfig(backend="gloo"))
    given = list(inspect.signature(backend.on_start).parameters)
    assert given == ["self", "worker_group", "backend_config"], (
        f"Ray {ray.__version__}'s {backend.__name__}.on_start takes {given}, process_group extends it: {REMEDY}")


def test_train_keeps_a_list_of_its_checkpoints_in_a_file():
    assert internals().checkpoints_record().endswith(".json"), f"Ray {ray.__version__} keeps it otherwise: {REMEDY}"
