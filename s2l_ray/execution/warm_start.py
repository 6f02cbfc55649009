"""Have the workers of a cluster of this machine's own forked from a process that has imported what they need.

A worker otherwise takes some 10 s of a core to import torch and transformers, and each stage has new workers.
"""

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from s2l_ray.execution.ray_internals import worker_set_up
from s2l_ray.execution.warm_stub import SETUP, SOCKET

logger = logging.getLogger(__name__)

PRELOAD = (
    "numpy", "pandas", "pyarrow", "pyarrow.compute", "pyarrow.dataset", "pyarrow.fs", "pyarrow.parquet", "scipy.stats",
    "sklearn.cluster", "torch", "torch.distributed", "torch._dynamo", "transformers", "transformers.trainer",
    "accelerate", "datasets", "deepspeed", "threadpoolctl",
)
"""None of them imports Ray or starts a thread."""
HERE = Path(__file__).parent


@contextlib.contextmanager
def warm_workers(preload: Sequence[str] = PRELOAD, *, use_gpu: bool = False) -> Iterator[None]:
    """Let Ray clusters that this process starts within the block fork their workers: wrap ray.init and ray.shutdown.

    A worker that cannot be forked starts as Ray starts it: another environment or interpreter, a server that is still
    loading after 30 s or has died. With GPUs, outside Linux and under coverage, all do: CUDA does not survive a fork,
    and neither does what counts lines.
    """
    if use_gpu or sys.platform != "linux" or {"COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"} & os.environ.keys():
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="s2l-warm-", dir="/tmp"))  # mode 0700; a socket's path must be short
    server = _start_server(folder, preload)
    try:
        with _stub_in_place(folder / "socket"):
            yield
    finally:
        _end(server, folder)


def _start_server(folder: Path, preload: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the server; stubs can call it at once, and wait until it has loaded."""
    with socket.socket(socket.AF_UNIX) as listener, (folder / "log").open("wb") as log:
        listener.bind(str(folder / "socket"))
        listener.listen(128)
        command = [sys.executable, str(HERE / "warm_server.py"), str(listener.fileno()), str(folder), *preload]
        # Its standard input is how it learns that we ended. In a session of its own, Ctrl-C does not reach it before.
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=[listener.fileno()],
                                start_new_session=True)


def _end(server: subprocess.Popen[bytes], folder: Path) -> None:
    """End the server, and tell what it died of if it had."""
    died = server.poll()
    if died:
        lines = (folder / "log").read_text(errors="replace").splitlines() if folder.exists() else []
        logger.warning("Workers started cold: the server of warm ones ended with %d: %s", died, "".join(lines[-1:]))
    assert server.stdin is not None
    server.stdin.close()
    server.terminate()
    server.wait()
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _stub_in_place(address: Path) -> Iterator[None]:
    """Have Ray start workers with the stub, which finds the server by the environment that it gets from its raylet.

    Other clusters take no notice: without the changed setting, which does not leave this process, there is no stub.
    """
    with worker_set_up(HERE / "warm_stub.py") as setup:
        ours = {SOCKET: str(address), SETUP: setup}
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
