"""Have the workers of a cluster of this machine's own forked from a process that has imported what they need.

A worker otherwise takes some 10 s of a core to import torch and transformers, and each stage has new workers.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from s2l_ray.execution.ray_internals import worker_set_up
from s2l_ray.execution.warm_launch import PRELOAD, can_fork, warm_server
from s2l_ray.execution.warm_stub import SETUP, SOCKET
from s2l_ray.storage.environment import environment

HERE = Path(__file__).parent


@contextlib.contextmanager
def warm_workers(
    preload: Sequence[str] = PRELOAD, *, use_gpu: bool = False, server: Path | None = None
) -> Iterator[None]:
    """Let Ray clusters that this process starts within the block fork their workers: wrap ray.init and ray.shutdown.

    A worker that cannot be forked starts as Ray starts it: another environment or interpreter, a server that is still
    loading after 30 s or has died. With GPUs, outside Linux and under coverage, all do: CUDA does not survive a fork,
    and neither does what counts lines. `server` is the address of a server that is there already.
    """
    if use_gpu or not can_fork():
        yield
        return
    there = contextlib.nullcontext(server) if server is not None else warm_server(preload)
    with there as address, _stub_in_place(address):
        yield


@contextlib.contextmanager
def _stub_in_place(address: Path) -> Iterator[None]:
    """Have Ray start workers with the stub, which finds the server by the environment that it gets from its raylet.

    Other clusters take no notice: without the changed setting, which does not leave this process, there is no stub.
    """
    with worker_set_up(HERE / "warm_stub.py") as setup, environment({SOCKET: str(address), SETUP: setup}):
        yield
