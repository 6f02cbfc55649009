"""Join a Ray cluster or start one on this machine, and check beforehand that it can do the work."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from s2l_ray.config import ResourcesConfig
from s2l_ray.errors import InputError
from s2l_ray.execution.preflight import check_nodes, describe_nodes
from s2l_ray.storage import Storage


@contextlib.contextmanager
def ray_session(resources: ResourcesConfig, storage: Storage, paths: Sequence[str] = ()) -> Iterator[str]:
    """Be connected to Ray while the block runs, on nodes that can do the work (`check_nodes`); yields what they are.

    Joins `resources.ray_address`, else the cluster of the job this runs in (RAY_ADDRESS), else starts a cluster of
    this machine's own that ends with the block. A connection that is already there is used and left as it is.

    Raises
    ------
    InputError
        The cluster cannot be reached, has no room for the workers, or a node cannot do the work.
    """
    if ray.is_initialized():
        yield describe_nodes(check_nodes(storage, paths))
        return
    address = resources.ray_address or os.environ.get("RAY_ADDRESS")
    # Workers' prints would mix with ours; Ray keeps them in its session folder, and errors reach us as exceptions.
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address:
            ray.init(address=address, **options)
        else:
            _start_local(resources, options)
    except ConnectionError as error:
        raise InputError(f"no Ray cluster answers at {address!r}: {error}. Start one or unset it.") from error
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler aborts the process; `ray job stop` should end as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not address:
            check_fits(resources)
        yield describe_nodes(check_nodes(storage, paths))
    finally:
        ray.shutdown()


def _start_local(resources: ResourcesConfig, options: dict[str, Any]) -> None:
    """Start a cluster with enough logical CPUs for the training workers, however few cores there are."""
    cpus = max(os.cpu_count() or 1, resources.num_workers * resources.cpus_per_worker)
    # Ray's default of 30 % of memory for objects is more than a laptop wants to give; /dev/shm bounds it anyway.
    ray.init(address="local", num_cpus=cpus, include_dashboard=True, dashboard_host="127.0.0.1",
             object_store_memory=1 << 30, **options)


def worker_needs(resources: ResourcesConfig) -> dict[str, int]:
    """Return what a group of training workers takes: Ray's resource -> amount."""
    cpus = {"CPU": resources.num_workers * resources.cpus_per_worker}
    return cpus | ({"GPU": resources.num_workers} if resources.use_gpu else {})


def check_fits(resources: ResourcesConfig) -> None:
    """Refuse training workers for which a cluster that cannot grow has no room; they would wait for ever."""
    have = ray.cluster_resources()
    need = worker_needs(resources)
    for name, amount in need.items():
        if have.get(name, 0) < amount:
            raise InputError(
                f"training needs {amount} {name} for resources.num_workers={resources.num_workers}, this machine has "
                f"{have.get(name, 0):g}: lower resources.num_workers, or join a cluster with resources.ray_address"
            )
