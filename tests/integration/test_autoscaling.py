"""The real autoscaler with nodes that are processes, from none and back: .venv/bin/pytest tests/integration/test_autoscaling.py"""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from ray.autoscaler.v2.sdk import get_cluster_status

from s2l_ray.quickstart import ASSETS

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NODE_S = 400  # what nodes may take to go away when idle


def num_workers(gcs):
    """The worker nodes that are there, busy or idle."""
    status = get_cluster_status(gcs)
    return sum(node.ray_node_type_name == "worker" for node in (*status.active_nodes, *status.idle_nodes))


class GpuWatch:
    """Looks again and again at the GPU nodes, at what of them is used, and at which stages are finished."""

    def __init__(self, gcs, storage):
        self._gcs, self._storage = gcs, storage
        self.seen = []
        """(GPU nodes, GPUs in use, finished stages), whenever one of them changed."""
        self.killed_pid = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _watch(self):
        while not self._ended.wait(0.3):
            status = get_cluster_status(self._gcs)
            nodes = [node for node in (*status.active_nodes, *status.idle_nodes) if node.ray_node_type_name == "gpu"]
            used = sum(node.used_resources().get("GPU", 0) for node in nodes)
            finished = frozenset(path.parts[-3] for path in self._storage.glob("*/*/manifest.json"))
            if not self.seen or self.seen[-1] != (len(nodes), used, finished):
                self.seen.append((len(nodes), used, finished))
            if self.killed_pid is None and any(self._storage.glob("trajectories/*/shards/*")):
                self.killed_pid = self._kill_gpu_node()

    def _kill_gpu_node(self):
        """Take the GPU node away in the midst of scoring, as a spot instance is."""
        for process in psutil.process_iter(["name", "cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if process.info["name"] == "raylet" and "GPU,1" in line and self._gcs in line:
                process.kill()
                return process.pid
        raise AssertionError("a trajectories shard is there, and no raylet with a GPU")


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


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_gpu_nodes_are_used_by_the_stages_that_ask_for_them_alone_and_come_again_when_lost(
    growing_cluster, recipe_file, tmp_path
):
    """Somebody's own checkpoints are scored on GPU nodes: what trains needs a real GPU."""
    address, gcs = growing_cluster
    for step in (1, 2):
        shutil.copytree(ASSETS / "proxy_base", tmp_path / "theirs" / f"checkpoint-{step}")
    settings = [f"trajectory.checkpoints={tmp_path / 'theirs'}", "resources.use_gpu=true", "trajectory.precision=fp32",
                "selection.controls=[]", "selection.num_clusters=2", "data.shard_rows=4", "resources.wait_timeout_s=400"]
    with GpuWatch(gcs, tmp_path / "out") as watch:
        job = submit(address, "select", recipe_file(), *settings)
        assert job.returncode == 0, job.stdout[-8000:]
        deadline = time.monotonic() + NODE_S
        while watch.seen[-1][0] and time.monotonic() < deadline:
            time.sleep(1)
    assert watch.killed_pid is not None and "select: done" in job.stdout.replace("select s2l: done", "select: done")
    busy = [finished for _, used, finished in watch.seen if used]
    assert busy, watch.seen
    assert all("prepare" in finished for finished in busy), f"prepare needs no GPU: {watch.seen}"
    assert not any("select" in finished for finished in busy), f"nor does select: {watch.seen}"
    assert "1 GPUs (free 0)" in job.stdout and "the autoscaler is adding 1 node" in job.stdout, job.stdout[-8000:]
    assert [count for count, _, _ in watch.seen].count(0) >= 2 and watch.seen[-1][0] == 0, watch.seen


def test_what_no_node_type_has_is_refused_before_any_node_starts(growing_cluster, recipe_file):
    address, gcs = growing_cluster
    job = submit(address, "run", recipe_file(), "resources.cpus_per_worker=3")
    assert job.returncode == 1, job.stdout[-8000:]  # of `ray job submit`; the job's own is 2
    assert "exit code 2" in job.stdout
    said = "6 CPUs are needed, for 2 workers of 3 CPU each; the nodes of this cluster have 0 CPUs, and its autoscaler has no"
    assert said in job.stdout
    assert num_workers(gcs) == 0
