"""How Ray runs our units: .venv/bin/pytest tests/integration/test_execution.py"""

import os
import re
import time
import urllib.request
from collections import Counter
from types import SimpleNamespace

import psutil
import pytest
import ray

from s2l_ray.config import ResourcesConfig
from s2l_ray.execution import training
from s2l_ray.execution.process_group import name_interface
from s2l_ray.execution.work import run_units

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


def metrics():
    """Return what Prometheus would read on this node."""
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


def test_prometheus_reads_units_and_tokens_of_each_stage(ray_cluster):
    run_units("counted", sleeper(), {}, [0.0, 0.0, 0.0], ResourcesConfig())
    deadline, found = time.monotonic() + 60, {}
    while time.monotonic() < deadline and found != {"units": 3.0, "tokens": 300.0}:
        lines = [line for line in metrics().splitlines() if "s2l_" in line and 'stage="counted"' in line]
        found = {
            name: sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"ray_s2l_{name}"))
            for name in ("units", "tokens")
        }
        time.sleep(1)
    assert found == {"units": 3.0, "tokens": 300.0}, metrics()[:2000]


def test_waiting_for_room_is_said_with_what_is_missing_and_how_long(ray_cluster, monkeypatch, capsys):
    holder = ray.remote(num_cpus=1)(type("Holder", (), {"ready": lambda self: None})).remote()
    ray.get(holder.ready.remote())
    monkeypatch.setattr(training, "_SAY_WAITING_S", 1.0)
    run = SimpleNamespace(name="finetune on s2l", plan=SimpleNamespace(total_steps=10))
    board = training._Board.options(num_cpus=0).remote()
    try:
        with training._watch(run, board, ResourcesConfig(num_workers=2)):
            time.sleep(4)
            waited = capsys.readouterr().err
            ray.get(board.tell.remote(3, {}))
            time.sleep(2)
            assert "waiting" not in capsys.readouterr().err
    finally:
        ray.kill(holder)
    assert re.search(r"finetune on s2l: waiting for 2 CPUs \(free 1\), \d s", waited), waited


def test_a_training_worker_is_reached_by_its_node_s_address(ray_cluster, monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    name_interface()
    interface = psutil.net_if_addrs()[os.environ["GLOO_SOCKET_IFNAME"]]
    assert ray.util.get_node_ip_address() in [address.address for address in interface]
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "theirs")
    name_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "theirs"
