"""Start and end the server that forks workers (warm_server.py)."""

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

logger = logging.getLogger(__name__)

PRELOAD = (
    "numpy", "pandas", "pyarrow", "pyarrow.compute", "pyarrow.dataset", "pyarrow.fs", "pyarrow.parquet", "scipy.stats",
    "sklearn.cluster", "torch", "torch.distributed", "torch._dynamo", "transformers", "transformers.trainer",
    "accelerate", "datasets", "deepspeed", "threadpoolctl",
)
"""None of them imports Ray or starts a thread."""
OURS = (
    "s2l_ray.execution.local.host", "s2l_ray.execution.local.training", "s2l_ray.execution.train_worker",
    "s2l_ray.execution.local.units", "s2l_ray.metrics.answers",
)
"""What workers of this machine load beside; not those of a cluster, whose jobs may bring another version of it."""


def can_fork() -> bool:
    """Tell whether workers can be forked here: on Linux, and not under coverage, whose count does not survive it."""
    return sys.platform == "linux" and not {"COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"} & os.environ.keys()


@contextlib.contextmanager
def warm_server(preload: Sequence[str] = PRELOAD) -> Iterator[Path]:
    """Have a server of forked workers while the block runs; yields the address of its socket."""
    folder = Path(tempfile.mkdtemp(prefix="s2l-warm-", dir="/tmp"))  # mode 0700; a socket's path must be short
    server = _start_server(folder, preload)
    try:
        yield folder / "socket"
    finally:
        _end(server, folder)


def _start_server(folder: Path, preload: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the server; stubs can call it at once, and wait until it has loaded."""
    with socket.socket(socket.AF_UNIX) as listener, (folder / "log").open("wb") as log:
        listener.bind(str(folder / "socket"))
        listener.listen(128)
        script = str(Path(__file__).with_name("warm_server.py"))
        command = [sys.executable, script, str(listener.fileno()), str(folder), *preload]
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
