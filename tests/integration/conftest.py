"""What several files look at: one finished small run, on this machine alone and on Ray, and job servers."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
import ray
import yaml
from ray.autoscaler.v2.sdk import get_cluster_status
from safetensors.torch import load_file

from s2l_ray.execution.warm_stub import SOCKET
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.results.results import collect_results

BIN = Path(sys.executable).parent
WARM_RAY = Path(__file__).resolve().parents[1] / "warm" / "start.py"
_HEAD_ID = "f" * 51 + "00000"


@pytest.fixture(scope="module")
def here(on_this_machine):
    """The work of a file's tests is done on this machine alone: what they prove holds on Ray (test_alone.py)."""
    with on_this_machine():
        yield


@pytest.fixture(scope="session")
def finished(on_this_machine, small_recipe, word_problems, tmp_path_factory):
    """A run finished on this machine alone: (recipe, plan, done, results)."""
    plan = plan_run(small_recipe(word_problems, tmp_path_factory.mktemp("storage")))
    with on_this_machine():
        done = run_plan(plan, "test")
    return plan.recipe, plan, done, collect_results(plan, done)


@pytest.fixture(scope="session")
def finished_on_ray(ray_cluster, small_recipe, word_problems, tmp_path_factory):
    """The plan of that run without its control, in another storage, finished on Ray."""
    plan = plan_run(small_recipe(word_problems, tmp_path_factory.mktemp("on_ray"), **{"selection.controls": []}))
    assert not any(one.is_reused for one in run_plan(plan, "test"))
    return plan


@pytest.fixture(scope="session")
def weights_of():
    """A function (artifact) -> the weights of each of its safetensors files, by the file's place in it."""

    def read(artifact):
        root = Path(artifact.storage.path(artifact.folder))
        return {str(path.relative_to(root)): load_file(path) for path in root.rglob("*.safetensors")}

    return read


@pytest.fixture(scope="session")
def processes_of(ray_cluster):
    """A function (name of a class) -> this session's processes that are Ray's actors of that class.

    Asking Ray's state API would take longer than some of them live.
    """
    def find(kind):
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended while we looked
                if f"ray::{kind}" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    return find


@pytest.fixture(scope="session")
def worker_killed():
    """A function (machine, artifact, victim) -> context in which one of two workers dies at the first checkpoint."""

    @contextlib.contextmanager
    def killing(machine, artifact, victim=0):
        killed, ended = [], threading.Event()

        def kill():
            while not killed and not ended.wait(0.02):
                if any(artifact.exists(f"resume/{name}/complete.json") for name in artifact.list_names("resume")):
                    logs = sorted(machine.folder.glob("worker-*.log"), key=lambda path: int(path.stem.partition("-")[2]))
                    pid = next(pid for pid in psutil.pids() if _output_of(pid) == str(logs[-2:][victim]))
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert killed, "nothing was killed: the training ended before its first checkpoint was seen"

    return killing


def _output_of(pid):
    """The file that is a process's standard output."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/1")
    return ""


@pytest.fixture
def one_core_taken(ray_cluster):
    """One of the cluster's two cores is busy while the test runs."""
    holder = ray.remote(num_cpus=1)(type("Holder", (), {"ready": lambda self: None})).remote()
    ray.get(holder.ready.remote())
    yield
    ray.kill(holder)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end(process):
    """End a process we started, and its children."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.terminate()
    _, alive = psutil.wait_procs(family, timeout=5)
    for member in alive:
        member.kill()


@pytest.fixture(scope="module")
def loopback_cluster(warm):
    """A Ray head of our own on loopback; yields its job server's address."""
    with _head({"RAY_AUTH_MODE": "disabled"}) as address:
        yield address


@pytest.fixture(scope="session")
def ray_head(warm):
    """A function (environment variables) -> context of a Ray head on loopback; it gives the job server's address."""
    return _head


@pytest.fixture
def recipe_file(small_recipe, word_problems, tmp_path):
    """A function (**{"dotted.key": value}) -> the small recipe as a file, its storage in the test's own folder."""

    def write(**changes):
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(small_recipe(word_problems, tmp_path / "out", **changes).model_dump(mode="json")))
        return file

    return write


@pytest.fixture(scope="module")
def growing_cluster(warm):
    """A head without cores whose autoscaler starts processes as nodes; yields (job server's address, GCS address)."""
    port = _free_port()
    settings = {
        "RAY_AUTH_MODE": "disabled", "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": _HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "autoscaling.yaml"
        file.write_text(yaml.safe_dump(_autoscaling(f"127.0.0.1:{port}")))
        with _head(settings, port=port, num_cpus=0, options=[f"--autoscaling-config={file}"]) as address:
            yield address, f"127.0.0.1:{port}"


def _autoscaling(gcs_address):
    """Ray's autoscaler over local processes: no worker to start with, three of two cores and one with a GPU at most.

    The GPU is one that a node says it has: what asks for it gets the node, and computes on its cores.
    """
    return {
        "cluster_name": "s2l-test", "max_workers": 4, "upscaling_speed": 20, "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "external", "head_node_id": _HEAD_ID, "launch_multiple": True, "gcs_address": gcs_address,
            "module": "tests.warm.provider.WarmProvider",
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": 2, "object_store_memory": 120_000_000}, "node_config": {},
                       "min_workers": 0, "max_workers": 3},
            "gpu": {"resources": {"CPU": 2, "GPU": 1, "object_store_memory": 120_000_000}, "node_config": {},
                    "min_workers": 0, "max_workers": 1},
        },
        "auth": {"ssh_user": "none"}, "file_mounts": {}, "docker": {}, "cluster_synced_files": [],
        "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [],
        **{f"{when}_commands": [] for when in ("setup", "head_setup", "worker_setup", "initialization",
                                               "head_start_ray", "worker_start_ray")},
    }


class Nodes:
    """A Ray cluster of real raylets on loopback, which come and go."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="s2ln-", dir="/tmp")
        self.gcs = f"127.0.0.1:{_free_port()}"
        self.environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": self.gcs,
                            "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1"}
        self._processes = []

    def add(self, num_cpus, mounts=""):
        """Start a node (the first is the head) and return its process; wait until it is there.

        With `mounts`, a line of shell, it has mounts of its own, which the line makes.
        """
        joins = [f"--address={self.gcs}"] if self._processes else [
            "--head", f"--port={self.gcs.partition(':')[2]}", f"--temp-dir={self.folder}", "--include-dashboard=false",
            f"--dashboard-agent-listen-port={_free_port()}"]
        # A forked worker would have the mounts of the server that forks it, which is outside this node.
        left_out = {"RAY_ADDRESS", SOCKET} if mounts else {"RAY_ADDRESS"}
        environment = {name: value for name, value in self.environment.items() if name not in left_out}
        before = self.alive() if self._processes else set()
        self._processes.append(subprocess.Popen(
            [*(["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "-"] if mounts else []),
             sys.executable, WARM_RAY, "start", "--block", f"--num-cpus={num_cpus}", "--node-ip-address=127.0.0.1",
             "--object-store-memory=100000000", *joins],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment))
        deadline = time.monotonic() + 240
        while not self._answers() or len(self.alive()) == len(before):
            assert time.monotonic() < deadline, "the node did not start"
            time.sleep(0.5)
        return self._processes[-1]

    def _answers(self):
        """Whether the head listens: Ray's client asks one that does not for most of a minute."""
        host, _, port = self.gcs.partition(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def alive(self):
        """The ids of the nodes that are there."""
        with contextlib.suppress(Exception):  # before there is a head
            status = get_cluster_status(self.gcs)
            return {node.node_id for node in (*status.active_nodes, *status.idle_nodes)}
        return set()

    def run(self, recipe, *settings, command="run", patch=""):
        """Start a command of `s2l` on the cluster, after a line of Python where one is given."""
        return subprocess.Popen(
            [sys.executable, "-c", f"{patch}\nfrom s2l_ray.cli.main import main; main()", command, str(recipe), *settings],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def close(self):
        """End all nodes."""
        for process in reversed(self._processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                _end(process)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def nodes(warm):
    """A cluster without nodes yet."""
    with contextlib.closing(Nodes()) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def lasting_nodes(warm):
    """A cluster without nodes yet, for all tests of a file: a node takes half a minute to start."""
    with contextlib.closing(Nodes()) as nodes:
        yield nodes


@contextlib.contextmanager
def _head(settings, *, port=None, num_cpus=2, options=()):
    """A Ray head on loopback with these environment variables, ended with the block."""
    folder = tempfile.mkdtemp(prefix="s2lj-", dir="/tmp")
    ports = {"port": port or _free_port(), "dashboard-port": _free_port(), "dashboard-agent-listen-port": _free_port()}
    # A job runs `python`, as it does in a cluster's image: here that is the tests' own.
    environment = {**os.environ, **settings, "PATH": f"{BIN}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [sys.executable, WARM_RAY, "start", "--head", "--block", f"--num-cpus={num_cpus}", "--node-ip-address=127.0.0.1",
         "--dashboard-host=127.0.0.1", f"--temp-dir={folder}", "--object-store-memory=300000000", *options,
         *(f"--{name}={number}" for name, number in ports.items())],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        _wait_for_jobs(address, environment)
        yield address
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_jobs(address, environment):
    """The job agent answers some seconds after the head does."""
    deadline = time.monotonic() + 480
    while time.monotonic() < deadline:
        probe = subprocess.run([BIN / "ray", "job", "submit", "--address", address, "--", "true"],
                               capture_output=True, env=environment, check=False)
        if probe.returncode == 0:
            return
        time.sleep(2)
    raise TimeoutError(f"no job server at {address}: {probe.stderr.decode()[-500:]}")
