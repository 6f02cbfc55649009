"""Join a Ray cluster or start one on this machine, and check beforehand that it can do the work."""

import contextlib
import logging
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from s2l_ray.config import ResourcesConfig
from s2l_ray.errors import InputError
from s2l_ray.storage import Storage


@contextlib.contextmanager
def ray_session(resources: ResourcesConfig, storage: Storage) -> Iterator[None]:
    """Be connected to Ray while the block runs.

    Joins `resources.ray_address`, else the cluster of the job this runs in (RAY_ADDRESS), else starts a cluster of
    this machine's own that ends with the block. A connection that is already there is used and left as it is.

    Raises
    ------
    InputError
        The cluster cannot be reached, has no room for the workers, or a node cannot use the storage.
    """
    if ray.is_initialized():
        _check_storage_everywhere(storage)
        yield
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
        _check_storage_everywhere(storage)
        yield
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


def _check_storage_everywhere(storage: Storage) -> None:
    """Prove that every node can write to the storage and read what the others wrote."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    folder = f".preflight-{uuid.uuid4().hex}"
    try:
        write = [_on(node, _write_probe).remote(storage, folder, node) for node in nodes]
        errors = [error for error in ray.get(write) if error]
        if not errors:
            read = [_on(node, _read_probes).remote(storage, folder, nodes) for node in nodes]
            errors = [error for error in ray.get(read) if error]
    finally:
        storage.delete_folder(folder)
    if errors:
        raise InputError(
            f"storage {storage.uri!r} does not serve all {len(nodes)} nodes: {errors[0]}. Use a shared folder or an "
            "object store (s3://...) that every node can reach."
        )


def _on(node: str, function: object) -> ray.remote_function.RemoteFunction:
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(function).options(num_cpus=0, scheduling_strategy=place)  # type: ignore[call-overload]


def _write_probe(storage: Storage, folder: str, node: str) -> str | None:
    try:
        storage.write_bytes(f"{folder}/{node}", node.encode())
    except OSError as error:
        return f"node {ray.util.get_node_ip_address()} cannot write ({error})"
    return None


def _read_probes(storage: Storage, folder: str, nodes: list[str]) -> str | None:
    for node in nodes:
        try:
            content = storage.read_bytes(f"{folder}/{node}")
        except OSError as error:
            return f"node {ray.util.get_node_ip_address()} does not see what another node wrote ({error})"
        if content != node.encode():
            return f"node {ray.util.get_node_ip_address()} reads other bytes than were written"
    return None
