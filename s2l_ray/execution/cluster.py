"""Join a Ray cluster or start one on this machine, and see to it that it can do the work."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from s2l_ray.errors import InputError
from s2l_ray.execution.bundles import total
from s2l_ray.execution.capacity import check_can_fit, needed_bundles, wait_for_capacity
from s2l_ray.execution.preflight import check_nodes, describe_nodes
from s2l_ray.execution.warm_start import warm_workers
from s2l_ray.progress.notes import note
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.recipe.workers import Workers
from s2l_ray.storage.files import Storage

LOCAL = "local"
"""As an address: a cluster of this machine's own."""
_STARTS = 3
_TOO_SLOW = "timed out during startup"  # as Ray says it


@dataclass
class Cluster:
    """The Ray cluster that a run is connected to."""

    resources: ResourcesConfig
    storage: Storage
    paths: Sequence[str]
    """Files and folders of this machine that the work reads."""
    _nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each node has that was checked, by its id."""

    def check(self, kinds: Sequence[Workers], *, ask: bool = True) -> None:
        """Prove that the nodes that are there can do the work, and that there can be enough of them for these workers.

        `ask` is whether an autoscaler may be asked whether there can be more.

        Raises
        ------
        InputError
            A node cannot do the work (`check_nodes`), or there will never be room for a stage (`check_can_fit`).
        """
        self._nodes |= check_nodes(self.storage, self.paths, known=self._nodes)
        needed = {str(bundles): bundles for workers in kinds if (bundles := needed_bundles(workers, self.resources))}
        # The most first: no node is started for a run that is refused.
        for bundles in sorted(needed.values(), key=lambda bundles: -sum(total(bundles).values())):
            check_can_fit(bundles, ask=ask)

    def make_ready(self, label: str, workers: Workers) -> None:
        """Wait until there is room for a stage, and check the nodes that came since.

        Raises
        ------
        InputError
            No room in time (`wait_for_capacity`), or a new node cannot do the work.
        """
        wait_for_capacity(label, needed_bundles(workers, self.resources), self.resources.wait_timeout_s)
        self.check([])

    def describe(self) -> str:
        """Return what the cluster has now, in words."""
        return describe_nodes(list(self._nodes.values()))


@contextlib.contextmanager
def ray_session(
    resources: ResourcesConfig, storage: Storage, paths: Sequence[str] = (), server: Path | None = None
) -> Iterator[Cluster]:
    """Be connected to Ray while the block runs.

    Joins `resources.ray_address`, else the cluster of the job this runs in (RAY_ADDRESS), else (or where the address is
    "local") starts a cluster of this machine's own that ends with the block. A connection that is already there is used
    and left as it is. `server` is the address of a server of forked workers that is there already.

    Raises
    ------
    InputError
        The cluster cannot be reached.
    """
    cluster = Cluster(resources, storage, paths)
    if ray.is_initialized():
        yield cluster
        return
    address = resources.ray_address or os.environ.get("RAY_ADDRESS")
    # Workers' prints would mix with ours; Ray keeps them in its session folder, and errors reach us as exceptions.
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    with contextlib.ExitStack() as stack:
        try:
            if address and address != LOCAL:
                ray.init(address=address, **options)
            else:
                stack.enter_context(warm_workers(use_gpu=resources.use_gpu, server=server))
                # Enough logical CPUs for the training workers, however few cores there are. Ray's default of 30 % of
                # memory for objects is more than a laptop wants to give; /dev/shm bounds it anyway.
                cpus = max(os.cpu_count() or 1, resources.min_workers * resources.cpus_per_worker)
                start_local(cpus, object_store_memory=1 << 30, **options)
        except ConnectionError as error:
            raise InputError(f"no Ray cluster answers at {address!r}: {error}. Start one or unset it.") from error
        stack.callback(ray.shutdown)
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler aborts the process; `ray job stop` should end as Ctrl-C does.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        yield cluster


def start_local(num_cpus: int, **options: Any) -> None:
    """Start a cluster of this machine's own, with so many logical CPUs; `options` are those of `ray.init`.

    Ray gives its processes 30 s to start, which a busy machine may not keep: it is tried again then. The dashboard is
    there where its packages are and it starts in time.
    """
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(address="local", num_cpus=num_cpus, dashboard_host="127.0.0.1", **options)
            break
        except Exception as error:
            if attempt == _STARTS or _TOO_SLOW not in str(error):
                raise
            note(f"Ray did not start within its 30 s: this machine is busy; trying again ({attempt} of {_STARTS - 1})")
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file():  # whoever reads it can run code here, and Ray writes it for everyone to read
        token.chmod(0o600)
