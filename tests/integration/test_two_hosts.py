"""The line on two hosts with a cable that is pulled: .venv/bin/pytest tests/integration/test_two_hosts.py (as root)

A host is a network namespace with its own address and loopback, and a raylet of one CPU in it: training with two
workers takes both. A switch, in a third namespace, connects them. They share the folders of this machine.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.recipe.loading import load_recipe

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]
BIN = Path(sys.executable).parent
ADDRESSES = {"a": "10.77.0.1", "b": "10.77.0.2"}
GCS_PORT, RAYLET_PORT = 6379, 6380
TRAINS, SCORES = "RayTrainWorker", "MapWorker"
# Long enough to be cut in the middle of, and twice as long on one host.
LONG = {"data.shard_rows": 16, "proxy.max_steps": 8, "trajectory.num_points": 8, "resources.wait_timeout_s": 60}
# Ends what is left of the hosts once nobody holds its standard input any more, whatever became of the tests.
CLEANER = """cat
for host in a b s; do
    while pids=$(ip netns pids $0-$host) && [ "$pids" ]; do kill -9 $pids; sleep 0.1; done
    ip netns del $0-$host
done
rm -rf "$1"
"""


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Hosts:
    """Host a with the head, host b, and the cable between b and the switch."""

    def __init__(self, name, folder):
        self.name, self.folder, self.raylets = name, folder, {}

    def build(self):
        for host in ("s", *ADDRESSES):
            ip("netns", "add", f"{self.name}-{host}")
        switch = f"{self.name}-s"
        ip("-n", switch, "link", "add", "switch", "type", "bridge")
        ip("-n", switch, "link", "set", "switch", "up")
        for host, address in ADDRESSES.items():
            own = f"{self.name}-{host}"
            ip("-n", switch, "link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns", own)
            ip("-n", switch, "link", "set", f"to-{host}", "master", "switch", "up")
            ip("-n", own, "link", "set", "lo", "up")
            ip("-n", own, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", own, "link", "set", "eth0", "up")
            ip("-n", own, "route", "add", "default", "dev", "eth0")  # by which Ray finds out a host's address

    def cut(self):
        ip("-n", f"{self.name}-s", "link", "set", "to-b", "down")
        assert not self.a_reaches_b()

    def fix(self):
        ip("-n", f"{self.name}-s", "link", "set", "to-b", "up")

    def a_reaches_b(self):
        """Whether the raylet of b answers a within a second."""
        script = f"</dev/tcp/{ADDRESSES['b']}/{RAYLET_PORT}"
        return self.start("a", "timeout", "1", "bash", "-c", script, stderr=subprocess.DEVNULL).wait() == 0

    def start(self, host, *command, **options):
        """Start a command on a host."""
        whole = ["ip", "netns", "exec", f"{self.name}-{host}", *map(str, command)]
        return subprocess.Popen(whole, **options)

    def join(self, host):
        """Start the raylet of a host, on a the head too."""
        role = (["--head", f"--port={GCS_PORT}", f"--temp-dir={self.folder}"] if host == "a"
                else [f"--address={ADDRESSES['a']}:{GCS_PORT}"])
        log = self.folder / f"{host}-{time.monotonic_ns()}.log"
        with log.open("w") as out:
            self.raylets[host] = self.start(
                host, BIN / "ray", "start", *role, f"--node-ip-address={ADDRESSES[host]}", "--num-cpus=1",
                f"--node-manager-port={RAYLET_PORT}", "--object-store-memory=150000000", "--block",
                stdout=out, stderr=subprocess.STDOUT)
        wait_for(lambda: "Ray runtime started" in log.read_text(), 90, f"the raylet of host {host}")

    def s2l(self, command, recipe, out):
        """Start s2l on host a; what it says lies in the file `out` and in `out`.err."""
        with out.open("w") as stdout, Path(f"{out}.err").open("w") as stderr:
            environment = {**os.environ, "RAY_ADDRESS": f"{ADDRESSES['a']}:{GCS_PORT}"}
            return self.start("a", BIN / "s2l", command, recipe, stdout=stdout, stderr=stderr, env=environment)

    def titles(self, host):
        """What Ray's processes on a host say that they do."""
        found = set()
        for process in psutil.Process(self.raylets[host].pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found.update(process.cmdline()[:1])
        return {title for title in found if title.startswith("ray::")}


@contextlib.contextmanager
def watched(hosts):
    """Yield {host: titles of all processes seen on it while the block runs}."""
    seen, ended = {host: set() for host in ADDRESSES}, threading.Event()

    def watch():
        while not ended.wait(0.5):
            for host in seen:
                seen[host] |= hosts.titles(host)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def wait_for(condition, seconds, what, process=None):
    """Wait for a condition; fail where it takes longer or the process ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"the run ended before {what}"
        assert time.monotonic() < deadline, f"no {what} after {seconds} s"
        time.sleep(0.1)


@pytest.fixture
def hosts():
    """Two hosts of one cluster; with the test they end, and with this process if it is killed."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces take root and the command ip")
    built = Hosts(f"s2l-{os.getpid()}", Path(tempfile.mkdtemp(prefix="s2lh-", dir="/tmp")))
    cleaner = subprocess.Popen(["bash", "-c", CLEANER, built.name, str(built.folder)], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        try:
            built.build()
        except OSError as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        for host in ADDRESSES:
            built.join(host)
        yield built
    finally:
        cleaner.stdin.close()
        cleaner.wait(timeout=60)


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    from s2l_ray.quickstart.problems import write_files

    folder = tmp_path_factory.mktemp("many-problems")
    write_files(folder, 3000, 24, seed=0)
    return folder


@pytest.fixture
def recipe(recipe_file, problems):
    """The small recipe's file on a larger pool."""
    tasks = [{"name": "problems", "path": str(problems / "held_out.jsonl"), "metrics": ["loss"]}]
    return recipe_file(**LONG, **{"data.path": str(problems / "pool.jsonl"), "evaluation.tasks": tasks})


@pytest.fixture(scope="module")
def on_one_host(ray_cluster, small_recipe, problems, tmp_path_factory):
    """What the recipe selects where nothing happens, and the bytes of its trajectories."""
    storage = tmp_path_factory.mktemp("one-host")
    run_plan(plan_run(small_recipe(problems, storage, **LONG), "select"), "on one host")
    return selected(storage), {name: shard.read_bytes() for name, shard in shards(storage).items()}


def selected(storage):
    """{fingerprint of a selection: its ids}."""
    return {file.parent.name: pq.read_table(file)["example_id"].to_pylist()
            for file in Path(storage).glob("select/*/selection.parquet")}


def shards(storage):
    """{name: file} of the trajectories that are whole."""
    return {file.name: file for file in Path(storage).glob("trajectories/*/shards/shard*")}


def times(files):
    return {name: file.stat().st_mtime_ns for name, file in files.items()}


def is_scored(storage):
    return bool(list(Path(storage).glob("trajectories/*/manifest.json")))


def assert_same(storage, on_one_host):
    ids, losses = on_one_host
    assert len(ids) == 2 and selected(storage) == ids
    assert {name: shard.read_bytes() for name, shard in shards(storage).items()} == losses


def test_the_line_on_two_hosts_selects_what_one_host_does(hosts, recipe, on_one_host, tmp_path):
    out = tmp_path / "stdout"
    with watched(hosts) as seen:
        run = hosts.s2l("run", recipe, out)
        assert run.wait(800) == 0, Path(f"{out}.err").read_text()[-3000:]
    storage = Path(load_recipe(str(recipe), []).storage)
    assert_same(storage, on_one_host)
    results = json.loads(out.read_text().splitlines()[-1])
    assert set(results["arms"]) == {"s2l", "random"} and "metrics" in results["arms"]["s2l"]
    for host, titles in seen.items():
        for work in (TRAINS, SCORES):
            assert any(work in title for title in titles), f"no {work} on host {host}: {sorted(titles)}"


def test_a_cable_pulled_for_20_s_while_scoring_changes_nothing(hosts, recipe, on_one_host, tmp_path):
    out, storage = tmp_path / "stdout", Path(load_recipe(str(recipe), []).storage)
    run = hosts.s2l("select", recipe, out)
    wait_for(lambda: len(shards(storage)) >= 10, 300, "tenth shard", run)
    assert hosts.a_reaches_b()
    before = times(shards(storage))
    hosts.cut()
    assert not is_scored(storage), "cut too late"
    time.sleep(20)
    hosts.fix()
    assert run.wait(600) == 0, Path(f"{out}.err").read_text()[-3000:]
    assert_same(storage, on_one_host)
    assert before.items() <= times(shards(storage)).items(), "finished shards are scored once"


def test_a_cable_pulled_for_good_while_scoring_loses_nothing(hosts, recipe, on_one_host, tmp_path):
    out, storage = tmp_path / "stdout", Path(load_recipe(str(recipe), []).storage)
    run = hosts.s2l("run", recipe, out)
    wait_for(lambda: len(shards(storage)) >= 10, 300, "tenth shard", run)
    before = times(shards(storage))
    hosts.cut()
    assert not is_scored(storage), "cut too late"
    # Host a scores what is left alone; there is no second CPU for the target's training, and none comes.
    assert run.wait(800) == 1
    said = Path(f"{out}.err").read_text()
    assert "failed: " in said and "finished work is kept" in said, said[-3000:]
    assert "Traceback" not in said and "waiting for 2 CPUs (free 1)" in said, said[-3000:]
    assert_same(storage, on_one_host)
    scored = times(shards(storage))
    assert before.items() <= scored.items()

    hosts.fix()
    hosts.raylets["b"].wait(90)  # without its head it ends by itself
    hosts.join("b")
    again = hosts.s2l("run", recipe, out)
    assert again.wait(600) == 0, Path(f"{out}.err").read_text()[-3000:]
    results = json.loads(out.read_text().splitlines()[-1])
    assert [stage["label"] for stage in results["stages"] if stage["reused"]] == [
        "prepare", "prepare task problems", "proxy", "trajectories", "select s2l", "select random"]
    assert_same(storage, on_one_host)
    assert times(shards(storage)) == scored, "no finished shard is scored again"
