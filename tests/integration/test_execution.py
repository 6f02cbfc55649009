"""How Ray runs our units: .venv/bin/pytest tests/integration/test_execution.py"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from functools import partial
from types import SimpleNamespace

import psutil
import pytest
import ray
from ray.data import DataContext

from s2l_ray.errors import InputError
from s2l_ray.execution import precision, ray_attempts, ray_units, training_progress
from s2l_ray.execution.attempts import UnitError
from s2l_ray.execution.placement import on_this_node
from s2l_ray.execution.process_group import _name_own_interface
from s2l_ray.execution.work_units import run_units
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.stages.trajectories import run_trajectories
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage

pytestmark = pytest.mark.integration


def sleeper():
    """Return a class of its own, which travels to the workers by value."""

    class Sleeper:
        def run(self, seconds):
            time.sleep(seconds)
            return {"pid": os.getpid(), "num_tokens": 100}

    return Sleeper


def test_an_idle_worker_takes_what_waits_while_another_is_busy(ray_cluster):
    units = [6.0, 0.1, 0.1, 0.1, 0.1]
    rows = run_units("sleep", sleeper(), {}, units, ResourcesConfig(), actors=True)
    assert [row["unit"] for row in rows] == [0, 1, 2, 3, 4]
    by_worker = Counter(row["pid"] for row in rows)
    assert by_worker[rows[0]["pid"]] == 1  # the busy one got nothing else
    assert len(by_worker) == 2


def test_what_the_driver_relies_on_comes_back_when_its_process_dies(ray_cluster):
    count = ray_attempts._Count.options(**on_this_node()).remote()
    assert [ray.get(count.begin.remote(0)) for _ in range(2)] == [1, 2]
    ray.kill(count, no_restart=False)
    deadline, last = time.monotonic() + 240, 2
    while time.monotonic() < deadline and (now := ray.get(count.begin.remote(0), timeout=60)) > last:
        last = now  # the kill is on its way
    assert now == 1
    ray.kill(count)


def num_free():
    return ray.available_resources().get("CPU", 0)


def test_a_unit_that_hangs_ends_the_stage_in_time_and_leaves_its_core(ray_cluster, monkeypatch):
    monkeypatch.setattr(ray_units, "STUCK_S", 3)
    started = time.monotonic()
    with pytest.raises(InputError, match=r"hang: nothing was finished for over an hour: a unit takes longer than that"):
        run_units("hang", sleeper(), {}, [0.1, 15.0], ResourcesConfig(num_scoring_workers=1, wait_timeout_s=1), actors=True)
    assert time.monotonic() - started < 60
    assert DataContext.get_current().execution_no_progress_timeout_s > 5, "other work of this process has its own limit"
    while num_free() < 2:
        assert time.monotonic() - started < 90, "the core is still taken"
        time.sleep(0.5)


ON_NODES_THAT_GO = """
import sys, time, ray
from pathlib import Path
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.execution.work_units import run_units
class Sleeper:
    def run(self, seconds):
        Path(started).touch()
        time.sleep(seconds)
        return {}
started = sys.argv[1]
ray.init(log_to_driver=False)
run_units("score", Sleeper, {}, [1.0] * 40, ResourcesConfig(wait_timeout_s=8), actors=True)
"""


@pytest.mark.slow
def test_where_the_last_node_for_the_work_is_lost_the_wait_is_said_and_ends(nodes, tmp_path):
    nodes.add(0)
    worker = nodes.add(1)
    driver = subprocess.Popen([sys.executable, "-c", ON_NODES_THAT_GO, tmp_path / "started"], env=nodes.environment,
                              stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "started").exists():
            assert driver.poll() is None and time.monotonic() < deadline, "no unit started"
            time.sleep(0.2)
        worker.kill()
        _, said = driver.communicate(timeout=300)
    finally:
        driver.kill()
    assert "score: waiting for 1 CPUs (free 0)" in said, said
    assert re.search(r"score: waited \d+ s \(resources.wait_timeout_s=8\) for 1 CPUs \(free 0\)", said), said
    assert driver.returncode == 1


def metrics():
    """Return what Prometheus would read on this node."""
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


def test_prometheus_reads_units_and_tokens_of_each_stage(ray_cluster):
    run_units("counted", sleeper(), {}, [0.0, 0.0, 0.0], ResourcesConfig())
    deadline, found = time.monotonic() + 240, {}
    while time.monotonic() < deadline and found != {"units": 3.0, "tokens": 300.0}:
        lines = [line for line in metrics().splitlines() if "s2l_" in line and 'stage="counted"' in line]
        found = {
            name: sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"ray_s2l_{name}"))
            for name in ("units", "tokens")
        }
        time.sleep(1)
    assert found == {"units": 3.0, "tokens": 300.0}, metrics()[:2000]


class TestUnitsThatFail:
    """A unit fails three times before the stage does, and never takes the others with it."""

    @staticmethod
    def worker(folder):
        """Return a class that counts in `folder` how often it began each unit."""

        class Worker:
            def run(self, unit):
                number, what = unit
                begun = len(list(folder.glob(f"{number}-*"))) + 1
                (folder / f"{number}-{begun}").touch()
                if what == "dies" or (what == "dies once" and begun == 1):
                    os.kill(os.getpid(), signal.SIGKILL)
                if what == "fails" or (what == "fails twice" and begun <= 2):
                    raise ZeroDivisionError("a poisoned row")
                if what == "refuses":
                    raise InputError("lower the learning rate")
                return {"pid": os.getpid()}

        return Worker

    def begun(self, folder, number):
        return len(list(folder.glob(f"{number}-*")))

    @pytest.mark.parametrize("actors", [True, False])
    def test_what_passes_is_repeated(self, ray_cluster, tmp_path, capsys, actors):
        units = [(0, "fine"), (1, "dies once"), (2, "fails twice"), (3, "fine")]
        rows = run_units("try", self.worker(tmp_path), {}, units, ResourcesConfig(), actors=actors)
        assert [row["unit"] for row in rows] == [0, 1, 2, 3]
        assert [self.begun(tmp_path, n) for n in range(4)] == [1, 2, 3, 1]
        assert "try: (2, 'fails twice') failed: ZeroDivisionError: a poisoned row; trying again" in capsys.readouterr().err

    @pytest.mark.parametrize(("what", "said"), [
        ("fails", "ZeroDivisionError: a poisoned row"),
        pytest.param("dies", r"its process died 3 times \(out of memory", marks=pytest.mark.slow),
    ])
    def test_what_stays_stops_the_stage_with_its_name_after_the_others_are_done(self, ray_cluster, tmp_path, what, said):
        units = [(0, "fine"), (1, what), (2, "fine"), (3, "fine"), (4, "fine")]
        with pytest.raises(UnitError, match=f"try: unit no. 1 failed: {said}.*What is finished is kept") as stopped:
            run_units("try", self.worker(tmp_path), {}, units, ResourcesConfig(), actors=True,
                      describe=lambda unit: f"unit no. {unit[0]}")
        assert [self.begun(tmp_path, n) for n in range(5)] == [1, 3, 1, 1, 1]
        notes = "".join(getattr(stopped.value, "__notes__", []))
        assert ("in run" in notes) == (what == "fails"), "the worker's traceback is there for --debug"

    def test_where_many_fail_it_is_not_the_units(self, ray_cluster, tmp_path):
        with pytest.raises(UnitError, match=r"try: \(\d+, 'fails'\) and 8 more failed"):
            run_units("try", self.worker(tmp_path), {}, [(n, "fails") for n in range(40)], ResourcesConfig())
        assert sum(self.begun(tmp_path, n) for n in range(40)) < 40

    def test_the_users_mistakes_are_not_repeated(self, ray_cluster, tmp_path):
        with pytest.raises(Exception, match="lower the learning rate"):
            run_units("try", self.worker(tmp_path), {}, [(0, "refuses")], ResourcesConfig())
        assert self.begun(tmp_path, 0) == 1


def test_waiting_for_room_is_said_with_what_is_missing_and_how_long(one_core_taken, monkeypatch, capsys):
    monkeypatch.setattr(training_progress, "_REPORT_WAITING_S", 1.0)
    run = SimpleNamespace(name="proxy: train", plan=SimpleNamespace(total_steps=10), config=None)
    progress = training_progress.TrainingProgress.options(num_cpus=0).remote()
    show = partial(training_progress.show, progress, run, ResourcesConfig(num_workers=2))
    with training_progress.running_beside(show):
        time.sleep(4)
        waited = capsys.readouterr().err
        ray.get(progress.report.remote(3, {}))
        time.sleep(2)
        assert "waiting" not in capsys.readouterr().err
        ray.get(progress.report.remote(-1, {}))  # as Train's controller does when workers are lost
        time.sleep(3)
        assert "waiting for 2 CPUs" in capsys.readouterr().err
    ray.kill(progress)
    assert re.search(r"proxy: train: waiting for 2 CPUs \(free 1\), \d s", waited), waited


def test_a_training_worker_is_reached_by_its_nodes_address(ray_cluster, monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    _name_own_interface()
    interface = psutil.net_if_addrs()[os.environ["GLOO_SOCKET_IFNAME"]]
    assert ray.util.get_node_ip_address() in [address.address for address in interface]
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "theirs")
    _name_own_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "theirs"


def test_precision_is_settled_by_the_workers_once_and_stays_with_the_artifact(ray_cluster, monkeypatch, tmp_path):
    resources, storage = ResourcesConfig(), Storage.open(str(tmp_path))
    first, second = (Artifact(storage, "proxy", {"number": number}) for number in (1, 2))
    monkeypatch.setattr(precision, "_is_fast_here", lambda: True)
    assert precision.settle_precision(first, "auto", resources) == "bf16"
    monkeypatch.setattr(precision, "_is_fast_here", lambda: False)  # it goes on on an older machine
    assert precision.settle_precision(first, "auto", resources) == "bf16"
    assert precision.settle_precision(second, "auto", resources) == "fp32"
    assert precision.settle_precision(second, "bf16", resources) == "bf16", "what the recipe says counts"


def test_a_killed_actor_loses_nothing(finished_on_ray, processes_of):
    prepare, proxy, done = (finished_on_ray.step(label).artifact for label in ("prepare", "proxy", "trajectories"))
    killed = []

    def kill_one():
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and not killed:
            for process in processes_of("MapWorker")[:1]:
                process.kill()
                killed.append(process.pid)
            time.sleep(0.02)

    thread = threading.Thread(target=kill_one)
    thread.start()
    again = Artifact(done.storage, "trajectories", {**done.identity, "copy": "killed"}, done.parents)
    one_worker = finished_on_ray.recipe.model_copy(update={"resources": ResourcesConfig(num_scoring_workers=1)})
    run_trajectories(again, proxy, prepare, one_worker)
    thread.join()
    assert killed, "no actor was found to kill"
    names = done.storage.list_names(done.file("shards"))
    read = done.storage.read_bytes
    assert names and all(read(done.file(f"shards/{n}")) == read(again.file(f"shards/{n}")) for n in names)
