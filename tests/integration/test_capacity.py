"""Room for a stage: is it there, could it be, and waiting for it: .venv/bin/pytest tests/integration/test_capacity.py"""

import time

import pytest
import ray
from ray.core.generated.autoscaler_pb2 import AutoscalingState, FailedInstanceRequest, PendingInstanceRequest
from ray.util.placement_group import placement_group

from s2l_ray.errors import InputError
from s2l_ray.execution import capacity
from s2l_ray.execution.capacity import (
    check_can_fit,
    needed_bundles,
    remove_abandoned_groups,
    requested_capacity,
    total,
    wait_for_capacity,
    workers_in_range,
)
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.recipe.resources import ResourcesConfig

pytestmark = pytest.mark.integration
ONE = {"CPU": 1}


def test_what_each_stage_takes():
    resources = ResourcesConfig(num_workers=(2, 4), cpus_per_worker=3, use_gpu=True)
    assert needed_bundles("training", resources) == [{"CPU": 3, "GPU": 1}] * 2
    assert total(needed_bundles("training", resources)) == {"CPU": 6, "GPU": 2}
    assert needed_bundles("cpu", resources) == [{"CPU": 1}]
    assert needed_bundles("scoring", resources) == [{"CPU": 1, "GPU": 1}]
    assert needed_bundles("none", resources) == []


def test_what_can_never_fit_is_refused_with_what_there_is(ray_cluster):
    check_can_fit([ONE, ONE])
    check_can_fit([])
    with pytest.raises(InputError, match=r"3 CPUs are needed, for 3 workers of 1 CPU each; the nodes of this cluster have 2 "
                       r"CPUs, and it has no autoscaler: lower resources.num_workers"):
        check_can_fit([ONE] * 3)
    with pytest.raises(InputError, match="1 CPU and 1 GPU each; the nodes of this cluster have 2 CPUs and 0 GPUs"):
        check_can_fit([{"CPU": 1, "GPU": 1}])
    with pytest.raises(InputError, match="3 CPUs are needed, for 1 workers of 3 CPU each"):
        check_can_fit([{"CPU": 3}])


def test_what_the_autoscaler_does_about_it_is_said(ray_cluster, monkeypatch):
    doing = AutoscalingState(
        pending_instance_requests=[PendingInstanceRequest(ray_node_type_name="gpu", count=2)],
        failed_instance_requests=[FailedInstanceRequest(ray_node_type_name="gpu", reason="no spot capacity")],
    )
    monkeypatch.setattr(capacity, "autoscaling_state", lambda: doing)
    assert capacity._describe_missing([{"CPU": 4, "GPU": 1}] * 2) == (
        "8 CPUs (free 2) and 2 GPUs (free 0), the autoscaler is adding 2 nodes, it could not start some: no spot capacity")


def test_room_that_is_there_is_not_waited_for(ray_cluster):
    started = time.monotonic()
    wait_for_capacity("proxy", [ONE, ONE], 10)
    assert time.monotonic() - started < 5
    wait_for_capacity("proxy", [ONE, ONE], 10)  # what was held is given back


def test_room_that_does_not_come_ends_the_wait(one_core_taken, monkeypatch, capsys):
    monkeypatch.setattr(capacity, "_FIRST_REPORT_S", 1.0)
    with pytest.raises(InputError, match=r"proxy: waited \d s \(resources.wait_timeout_s=3\) for 2 CPUs \(free 1\)"):
        wait_for_capacity("proxy", [ONE, ONE], 3)
    assert "proxy: waiting for 2 CPUs (free 1)" in capsys.readouterr().err


def test_a_range_of_workers_takes_all_there_is_room_for(ray_cluster):
    assert workers_in_range("proxy", ResourcesConfig(num_workers=(1, 4)), wait_for_max=True) == 2  # of two cores


def test_a_range_of_workers_leaves_what_others_hold(one_core_taken, monkeypatch):
    monkeypatch.setattr(capacity, "_FREE_S", 1.0)
    assert workers_in_range("proxy", ResourcesConfig(num_workers=(1, 4)), wait_for_max=True) == 1
    with pytest.raises(InputError, match=r"waited .* for 2 CPUs"):
        workers_in_range("proxy", ResourcesConfig(num_workers=(2, 4), wait_timeout_s=2), wait_for_max=True)


@ray.remote(num_cpus=0)
class Maker:
    """Makes a placement group and holds it."""

    def make(self):
        self.group = placement_group([ONE, ONE])
        return self.group.wait(timeout_seconds=20)


def test_room_whose_maker_died_is_given_back_and_no_other(ray_cluster):
    living, dying = Maker.remote(), Maker.remote()
    assert ray.get(dying.make.remote())
    ray.kill(dying)
    time.sleep(2)
    with requested_capacity([ONE]) as group:
        assert not group.wait(timeout_seconds=2), "Ray gives it back by now: remove_abandoned_groups can go"
        remove_abandoned_groups()
        assert group.wait(timeout_seconds=20)
    assert ray.get(living.make.remote())
    remove_abandoned_groups()
    with requested_capacity([ONE]) as group:
        assert not group.wait(timeout_seconds=2)
    ray.kill(living)
    time.sleep(1)
    remove_abandoned_groups()


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "until"), [
    ({"num_workers": 1, "cpus_per_worker": 2, "num_scoring_workers": 8}, "finetune"),  # all cores in one worker's hands
    ({"num_workers": [2, 4], "cpus_per_worker": 1}, "trajectories"),  # as many as there are, and more asked for all the while
], ids=["one of two cores", "two or more"])
def test_no_setting_waits_for_what_it_holds_itself(ray_cluster, small_recipe, word_problems, tmp_path, settings, until):
    resources = {f"resources.{name}": value for name, value in settings.items()}
    batches = {f"{part}.{name}": size for part in ("proxy", "target")
               for name, size in (("global_batch_size", 24), ("micro_batch_size", 2))}
    changes = {"data.limit": 100, "evaluation.tasks": [], "selection.controls": [], **batches, **resources}
    plan = plan_run(small_recipe(word_problems, tmp_path / "out", **changes), until)
    run_plan(plan, "test")
    assert all(step.artifact.is_finished for step in plan.steps)
