"""A Ray cluster of real raylets on this machine: each node is a `ray start` of our own, and may be killed."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]

from s2l_ray.execution.warm_stub import SOCKET

NUM_NODES = 3  # of one CPU each: two training workers find room when one is lost
_OBJECT_STORE_BYTES = 100_000_000
_START_S = 180.0  # on a busy machine
_RAY = str(Path(__file__).resolve().parents[1] / "warm" / "start.py")
_IDLE = "ray::IDLE"
_OUTLIVES = re.compile("Agent|PlacementGroupCleaner|ActorLocationTracker|_StatsActor|_AutoscalingCoordinatorActor|"
                       "_UsageCollectionActor")
"""Ray's own processes that outlive a driver by design."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float, interval_s: float = 0.1) -> bool:
    """Wait until a condition holds; return whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def family_of(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all below it, as far as they still live."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def title_of(process: psutil.Process) -> str:
    """Return what a process calls itself."""
    with contextlib.suppress(psutil.Error):
        return " ".join(" ".join(process.cmdline()).split())
    return ""


def end_all(processes: list[psutil.Process]) -> None:
    """End processes that we started, frozen ones too."""
    for act in (psutil.Process.resume, psutil.Process.terminate):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                act(process)
    _, alive = psutil.wait_procs(processes, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _server_of_warm_workers() -> psutil.Process:
    """Return the server that this process started."""
    found = [child for child in psutil.Process().children() if "warm_server.py" in title_of(child)]
    assert len(found) == 1, found
    return found[0]


class Cluster:
    """A head and two further nodes; `restore` starts what is missing, as a cloud does with spot nodes.

    Their workers are forked from the server whose address the environment has, where it has one.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, dict(environment)
        self._forking = _server_of_warm_workers() if SOCKET in environment else None
        self._nodes: list[subprocess.Popen] = []
        self._starting = threading.Lock()
        self.address = ""

    def start(self) -> None:
        """Start all nodes and wait until they are known to each other."""
        self.address = f"127.0.0.1:{free_port()}"
        head = ["--head", f"--port={self.address.rpartition(':')[2]}", f"--dashboard-port={free_port()}",
                "--dashboard-host=127.0.0.1", f"--temp-dir={self._folder}", f"--ray-client-server-port={free_port()}",
                "--disable-usage-stats"]
        self._nodes = [self._node(head)]
        wait_for(lambda: self._nodes[0].poll() is not None or self.num_alive() == 1, _START_S, 0.5)
        if self.num_alive() != 1:
            said = (self._folder / "ray_start.log").read_text()[-1000:]
            raise TimeoutError(f"the head did not start: {said}")
        self.restore()

    def _node(self, options: list[str]) -> subprocess.Popen:
        """Start a node; ports are random, since several nodes share this machine's address."""
        command = [
            sys.executable, _RAY, "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1",
            f"--object-store-memory={_OBJECT_STORE_BYTES}", "--min-worker-port=0", "--max-worker-port=0",
            f"--dashboard-agent-listen-port={free_port()}", *options,
        ]
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "ray_start.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)

    def num_alive(self) -> int:
        """Return the number of nodes that the cluster takes for living, 0 while it takes a dead one for living."""
        if not _answers(int(self.address.rpartition(":")[2])):  # the client would block and complain
            return 0
        try:
            infos = GcsClient(address=self.address).get_all_node_info(timeout=5).values()
        except Exception:  # Ray raises its own kinds while the head starts
            return 0
        ports = [info.node_manager_port for info in infos if info.state == GcsNodeInfo.GcsNodeState.ALIVE]
        return len(ports) if all(map(_answers, ports)) else 0

    def add_node(self) -> None:
        """Start one further node in place of one that is gone, and wait until it is there.

        One at a time: two that start together choose the same names for their sockets.
        """
        with self._starting:
            self._end_broken_nodes()
            if len(self._nodes) < NUM_NODES:
                self._nodes.append(self._node([f"--address={self.address}"]))
                wait_for(lambda: self._raylet(self._nodes[-1]) is not None, _START_S / 2)

    def restore(self) -> None:
        """Wait until lost nodes are known to be lost, and start new ones in their place.

        Raises
        ------
        TimeoutError
            The cluster does not come to its number of nodes.
        """
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            self.add_node()
            if len(self._nodes) == NUM_NODES and self.num_alive() == NUM_NODES:
                return
            time.sleep(0.5)
        raise TimeoutError(f"{self.num_alive()} of {NUM_NODES} nodes are there after {_START_S:.0f} s")

    def _end_broken_nodes(self) -> None:
        """End what is left of nodes whose raylet is gone; `ray start` stays where a raylet left of its own accord."""
        for node in self._nodes[1:]:
            if node.poll() is None and self._raylet(node) is None:
                end_all(family_of(psutil.Process(node.pid)))
                node.wait()
        self._nodes = [node for node in self._nodes if node.poll() is None]

    def _raylet(self, node: subprocess.Popen) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(node.pid).children():
                if process.name() == "raylet" and process.status() != psutil.STATUS_ZOMBIE:
                    return process
        return None

    def raylets(self) -> list[psutil.Process]:
        """Return the raylets of the nodes that are not the head."""
        return [raylet for node in self._nodes[1:] if (raylet := self._raylet(node)) is not None]

    def workers(self, *, idle: bool = False) -> list[psutil.Process]:
        """Return the processes that run tasks and actors now, or those that wait for any."""
        found = []
        for family in self._families():
            titles = {process: title_of(process) for process in family}
            found += [process for process, title in titles.items() if title.startswith("ray::")
                      and not _OUTLIVES.search(title) and (title == _IDLE) == idle]
        return sorted(found, key=lambda process: (title_of(process), process.pid))

    def processes(self) -> str:
        """Return all processes of the cluster with their states, for a log."""
        lines = []
        for family in self._families():
            for process in family:
                with contextlib.suppress(psutil.Error):
                    lines.append(f"{process.pid} {process.status()} {title_of(process)[:120]}")
        return "\n".join(lines) + "\n"

    def _families(self) -> list[list[psutil.Process]]:
        """Return the processes of each node that lives, and those that were forked for any."""
        nodes = [family_of(psutil.Process(node.pid)) for node in self._nodes if node.poll() is None]
        return nodes if self._forking is None else [*nodes, family_of(self._forking)]

    def keep_logs(self, folder: Path) -> None:
        """Copy Ray's own logs."""
        shutil.copytree(self._folder / "session_latest" / "logs", folder, ignore_dangling_symlinks=True,
                        dirs_exist_ok=True)

    def close(self) -> None:
        """End every process of the cluster."""
        families = [family_of(psutil.Process(node.pid)) for node in self._nodes if node.poll() is None]
        end_all([process for family in reversed(families) for process in family])
        for node in self._nodes:
            node.wait()
        self._nodes = []
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def environment_of(scratch: Path) -> dict[str, str]:
    """Return the environment of the cluster and of the drivers: ours, this checkout's package, one scratch folder."""
    root = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ, "PYTHONPATH": root, "TMPDIR": str(scratch), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1",
        "GOMP_SPINCOUNT": "10000",  # as the command sets it for its workers
        "HF_HUB_OFFLINE": "1", "RAY_memory_monitor_refresh_ms": "0",  # others may use this machine's memory
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }
