"""Import what workers need, once, and fork a worker for each stub (warm_stub.py) that asks.

A script of its own, started by warm_start.py: `warm_server.py LISTENER FOLDER MODULE...`. It ends with its driver.
It must not import Ray: Ray reads a worker's identity when it is imported, and forks would draw the same random ids.
"""

import gc
import importlib
import json
import os
import resource
import runpy
import select
import shutil
import signal
import socket
import struct
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WHILE_LOADING = {
    # A fork has only the thread that forked: no library may start another before.
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # CUDA does not survive a fork: ask the driver's library whether it is there
    "DS_ACCELERATOR": "cpu",
}
READ_AT_IMPORT = (
    "ACCELERATE_", "ARROW_", "DATASETS_", "DS_", "GOMP_", "HF_", "HUGGINGFACE_", "KMP_", "LANG", "LC_", "LD_", "MKL_",
    "NUMEXPR_", "NUMPY_", "OMP_", "OPENBLAS_", "PYTHON", "PYTORCH_", "SKLEARN_", "TORCH", "TRANSFORMERS_", "TZ", "USE_",
    "XDG_CACHE_HOME",
)
"""A worker for which one of these is other than for its driver is not forked: it would not take effect."""
READ_LATER = {"OMP_NUM_THREADS", "PYTHONBREAKPOINT"}
SET_AT_IMPORT = {
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK",  # by scikit-learn, as all but the last here too
    "TORCHINDUCTOR_CACHE_DIR",  # by torch's compiler, which bitsandbytes loads
    "PYTORCH_NVML_BASED_CUDA_CHECK",  # by deepspeed
    "HF_XET_HIGH_PERFORMANCE",  # by lm_eval: how fast the hub is loaded from
}
"""Differ where a library was imported in one process and not yet in the other, and change nothing here."""
READY = "ready"
"""File beside the socket that says that all is loaded."""
DRIVER_POLL_S = 2
STUB_TIMEOUT_S = 5
LARGEST_REQUEST = 1 << 24


@dataclass
class Worker:
    """What a forked process is to become."""

    command: list[str]
    environment: dict[str, str]
    folder: str
    umask: int
    nice: int
    limits: dict[str, tuple[int, int]]
    executable: str


def load(modules: list[str], parent: int) -> str:
    """Import the modules; return what then forbids to fork, if anything."""
    for module in modules:
        if not driver_is_there(parent):
            return "the driver ended"
        importlib.import_module(module)
    if "ray" in sys.modules:
        return "one of the modules imports Ray"
    if "libcuda." in Path("/proc/self/maps").read_text(encoding="utf-8"):
        return "one of the modules loads CUDA"
    return ""


def driver_is_there(parent: int) -> bool:
    """Tell whether the driver lives and holds its end of the pipe, which is our standard input."""
    return os.getppid() == parent and not select.select([0], [], [], 0)[0]


def serve(listener: socket.socket, environment: dict[str, str], parent: int, obstacle: str) -> Worker | None:
    """Answer stubs until the driver ends. Returns in each forked child as well: there, what it is to become."""
    while driver_is_there(parent):
        if listener.fileno() in select.select([0, listener.fileno()], [], [], DRIVER_POLL_S)[0]:
            worker = answer(listener, environment, obstacle)
            if worker is not None:
                listener.close()
                return worker
    return None


def answer(listener: socket.socket, environment: dict[str, str], obstacle: str) -> Worker | None:
    """Fork a worker for the next stub, or refuse it; return what to become in the child, else None."""
    stub, _ = listener.accept()
    stub.settimeout(STUB_TIMEOUT_S)
    files: list[int] = []
    try:
        worker, files = receive(stub)
        reason = obstacle or refusal(worker, environment)
        if reason:
            stub.sendall(f"no: {reason}".encode())
            return None
        child = os.fork()
        if child == 0:
            return worker if is_wanted(stub, files) else os._exit(0)
        stub.sendall(str(child).encode())
    except (OSError, ValueError, TypeError):  # of one stub, which then starts its worker cold: the next may fare better
        traceback.print_exc()
    finally:
        stub.close()
        for file in files:
            os.close(file)
    return None


def receive(stub: socket.socket) -> tuple[Worker, list[int]]:
    """Return a stub's request, and its standard input, output and error."""
    _, user, _ = struct.unpack("3i", stub.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if user != os.getuid():
        raise ValueError(f"user {user} asks for a worker")
    head, files, _, _ = socket.recv_fds(stub, 8, 3)
    with stub.makefile("rb") as stream:
        size = int.from_bytes(head + stream.read(8 - len(head)), "big")
        if size > LARGEST_REQUEST:
            raise ValueError(f"a request of {size} bytes")
        message = stream.read(size)
    return Worker(**json.loads(message)), files


def refusal(worker: Worker, environment: dict[str, str]) -> str:
    """Return why a worker cannot be a fork of this process, if it cannot."""
    if worker.executable != sys.executable:
        return f"it runs {worker.executable}, not {sys.executable}"
    # Where DS_ACCELERATOR is not set, deepspeed finds what there is; without a GPU, that is the CPU.
    ours, theirs = ({"DS_ACCELERATOR": "cpu", **variables} for variables in (environment, worker.environment))
    differing = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)
                 and name.startswith(READ_AT_IMPORT) and name not in READ_LATER | SET_AT_IMPORT]
    if differing:
        return f"its environment differs from the driver's in {', '.join(differing)}"
    threads = len(os.listdir("/proc/self/task"))
    return "" if threads == 1 else f"the server has {threads} threads"


def is_wanted(stub: socket.socket, files: list[int]) -> bool:
    """Leave the server's group, signals and files for the stub's; tell whether the stub still wants a worker."""
    os.setpgid(0, 0)  # Ray kills a worker's whole group
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, file in enumerate(files):
        os.dup2(file, number)
    return stub.recv(2) == b"go"


def run(worker: Worker) -> Any:
    """Be the worker, as if Python had been started with its command."""
    os.environ.clear()
    os.environ.update(worker.environment)
    os.chdir(worker.folder)
    os.umask(worker.umask)
    os.nice(max(0, worker.nice - os.nice(0)))
    for name, (soft, hard) in worker.limits.items():
        resource.setrlimit(getattr(resource, name), (soft, hard))
    if "torch" in sys.modules:
        sys.modules["torch"].seed()  # Python seeds its own generator after a fork
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    follow_thread_count()
    sys.argv = worker.command
    sys.path.insert(0, str(Path(worker.command[0]).parent))
    return runpy.run_path(worker.command[0], run_name="__main__")


def follow_thread_count() -> None:
    """Do what OMP_NUM_THREADS says, now and when it is set later.

    Ray sets it before a worker's first task, to the task's CPUs. Libraries read it when imported: too early here.
    """
    current = WHILE_LOADING["OMP_NUM_THREADS"]

    def follow(count: str) -> None:
        nonlocal current
        if count.isdigit() and count != current:
            current = count
            set_thread_count(int(count))

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.putenv" and arguments[0] == b"OMP_NUM_THREADS":
            follow(os.fsdecode(arguments[1]))

    follow(os.environ.get("OMP_NUM_THREADS", ""))
    sys.addaudithook(watch)


def set_thread_count(count: int) -> None:
    """Let torch, OpenMP and BLAS use so many threads, where they are loaded."""
    for name, setter in (("threadpoolctl", "threadpool_limits"), ("torch", "set_num_threads")):
        if name in sys.modules:
            getattr(sys.modules[name], setter)(count)


def main() -> None:
    """Load, serve, and clean up; or, in a child, be a worker."""
    del sys.path[0]  # this folder: its datasets.py is not the package of that name
    listener, folder, parent = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], os.getppid()
    environment = dict(os.environ)
    os.environ.update(WHILE_LOADING)
    obstacle = load(sys.argv[3:], parent)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are Ray's: nobody here waits for them
    Path(folder, READY).touch()
    gc.freeze()  # else the collector of each child writes to, and so copies, all that they share
    worker = serve(listener, environment, parent, obstacle)
    if worker is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        run(worker)


if __name__ == "__main__":
    main()
