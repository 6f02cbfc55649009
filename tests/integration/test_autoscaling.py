"""The real autoscaler with nodes that are processes, from none and back: .venv/bin/pytest tests/integration/test_autoscaling.py"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ray.autoscaler.v2.sdk import get_cluster_status

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NODE_S = 400  # what nodes may take to go away when idle


def num_workers(gcs):
    """The worker nodes that are there, busy or idle."""
    status = get_cluster_status(gcs)
    return sum(node.ray_node_type_name == "worker" for node in (*status.active_nodes, *status.idle_nodes))


def submit(address, command, file, *settings):
    """What `ray job submit` of a command of ours prints, and how it ends.

    Without a working folder (`s2l submit` sends one): these nodes share one disk, where each unpacks it again under the
    feet of the others.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["ray", "job", "submit", "--address", address, "--", "s2l", command, file, *settings],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=850, env=environment,
    )


def test_a_run_scales_up_from_nothing_and_the_nodes_go_away(growing_cluster, recipe_file):
    address, gcs = growing_cluster
    counts, ended = [num_workers(gcs)], threading.Event()

    def watch():
        while not ended.wait(0.5):
            if (now := num_workers(gcs)) != counts[-1]:
                counts.append(now)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    job = submit(address, "proxy", recipe_file(), "resources.wait_timeout_s=400")
    assert job.returncode == 0, job.stdout[-8000:]
    assert "proxy: done" in job.stdout
    deadline = time.monotonic() + NODE_S
    while counts[-1] and time.monotonic() < deadline:
        time.sleep(1)
    ended.set()
    watcher.join()
    assert counts[0] == counts[-1] == 0 and 1 <= max(counts) <= 3, counts


def test_what_no_node_type_has_is_refused_before_any_node_starts(growing_cluster, recipe_file):
    address, gcs = growing_cluster
    job = submit(address, "run", recipe_file(), "resources.cpus_per_worker=3")
    assert job.returncode == 1, job.stdout[-8000:]  # of `ray job submit`; the job's own is 2
    assert "exit code 2" in job.stdout
    said = "6 CPUs are needed, for 2 workers of 3 CPU each; the nodes of this cluster have 0 CPUs, and its autoscaler has no"
    assert said in job.stdout
    assert num_workers(gcs) == 0
