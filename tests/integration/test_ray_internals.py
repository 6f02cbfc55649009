"""Canaries of Ray's private API that need a cluster: .venv/bin/pytest tests/integration/test_ray_internals.py"""

import time

import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from s2l_ray.execution.ray_internals import abandoned_groups, autoscaling_state

pytestmark = pytest.mark.integration
REMEDY = f"Ray {ray.__version__} has changed it: adapt s2l_ray/execution/ray_internals.py, or use a public way"


def test_where_there_is_no_autoscaler_its_state_is_version_0(ray_cluster):
    state = autoscaling_state()
    assert state.autoscaler_state_version == 0, f"autoscaling_state of a cluster without autoscaler. {REMEDY}"
    used = ("pending_instance_requests", "pending_instances", "failed_instance_requests",
            "infeasible_gang_resource_requests")
    missing = [name for name in used if not hasattr(state, name)]
    assert not missing, f"autoscaling_state lacks {missing}. {REMEDY}"


def test_a_group_of_the_driver_itself_is_not_abandoned(ray_cluster):
    group = placement_group([{"CPU": 1}])
    assert group.wait(timeout_seconds=20)
    assert group.id.hex() in placement_group_table()
    assert abandoned_groups() == [], f"abandoned_groups finds what its driver still holds. {REMEDY}"
    remove_placement_group(group)


def until(condition, failure):
    """Wait 20 s for the condition."""
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.2)


@ray.remote(num_cpus=0)
class Maker:
    """Makes a placement group and holds it."""

    def make(self):
        """Return its id."""
        self.group = placement_group([{"CPU": 1}])
        assert self.group.wait(timeout_seconds=20)
        return self.group.id.hex()


def test_a_group_whose_maker_died_is_found(ray_cluster):
    maker = Maker.remote()
    made = ray.get(maker.make.remote())
    assert abandoned_groups() == []
    ray.kill(maker)
    until(lambda: [group.id.hex() for group in abandoned_groups()] == [made],
          f"abandoned_groups does not find a dead actor's group. {REMEDY}")
    remove_placement_group(abandoned_groups()[0])
    until(lambda: abandoned_groups() == [], f"abandoned_groups keeps a removed group. {REMEDY}")
    until(lambda: ray.available_resources().get("CPU") == 2, "the core is not given back")
