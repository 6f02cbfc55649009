"""The real autoscaler with nodes that are processes, from none and back: .venv/bin/pytest tests/integration/test_autoscaling.py"""

import contextlib
import json
import subprocess
import sys
import time

import pytest
from ray.autoscaler.v2.sdk import get_cluster_status

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NODE_S = 240  # what nodes may take to go away when idle


def num_workers(gcs):
    """The worker nodes that are there, busy or idle."""
    status = get_cluster_status(gcs)
    return sum(node.ray_node_type_name == "worker" for node in (*status.active_nodes, *status.idle_nodes))


def submit(address, file, *settings):
    """What `s2l submit` prints and how it ends."""
    return subprocess.run(
        [sys.executable, "-c", "from s2l_ray.cli import main; main()", "submit", file, "--address", address, *settings],
        capture_output=True, text=True, check=False, timeout=420,
    )


def test_a_run_scales_up_from_nothing_and_the_nodes_go_away(growing_cluster, recipe_file):
    address, gcs = growing_cluster
    assert num_workers(gcs) == 0
    job = submit(address, recipe_file(**{"selection.controls": [], "evaluation.tasks": []}), "resources.wait_timeout_s=120")
    assert job.returncode == 0, job.stderr[-3000:]
    assert json.loads(job.stdout.splitlines()[-1])["status"] == "SUCCEEDED"
    assert "finetune s2l: done" in job.stderr + job.stdout
    deadline, gone = time.monotonic() + NODE_S, False
    while time.monotonic() < deadline and not gone:
        with contextlib.suppress(TimeoutError):
            gone = num_workers(gcs) == 0
        time.sleep(1)
    assert gone, f"{num_workers(gcs)} nodes are still there"


def test_what_no_node_type_has_is_refused_before_any_node_starts(growing_cluster, recipe_file):
    address, gcs = growing_cluster
    job = submit(address, recipe_file(), "resources.cpus_per_worker=3")
    assert job.returncode == 2, job.stderr[-3000:]
    said = "6 CPUs are needed, for 2 workers of 3 CPU each; the nodes of this cluster have 0 CPUs, and its autoscaler has no"
    assert said in job.stderr + job.stdout
    assert num_workers(gcs) == 0
