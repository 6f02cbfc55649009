"""Before any work: every node uses the storage, sees the inputs, and runs the same versions."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import ray
from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError

from s2l_ray.errors import InputError
from s2l_ray.execution.node import check_node, look
from s2l_ray.execution.placement import on_node
from s2l_ray.storage.files import Storage

_MAX_LOST = 5


def check_nodes(
    storage: Storage, paths: Sequence[str], known: Iterable[str] = frozenset()
) -> dict[str, dict[str, Any]]:
    """Prove that every living node can do the work; return what each has (address, disk, memory), by its id.

    Parameters
    ----------
    paths
        Files and folders of this machine that the work reads: data, models, tokenizers.
    known
        Nodes that were checked before.

    Raises
    ------
    InputError
        A node cannot write the storage or read what another one wrote, lacks an input, has other versions of a package
        that results depend on, or less than 1 GiB left of memory, or of disk for temporary files.
    """
    for lost in range(_MAX_LOST):
        nodes = sorted(alive_nodes().difference(known))
        try:
            return _check(nodes, storage, paths)
        except (NodeDiedError, TaskUnschedulableError, WorkerCrashedError) as error:
            if lost == _MAX_LOST - 1:
                raise InputError(f"nodes are lost faster than they can be checked: {error}") from error
    raise AssertionError("the loop returns or raises")


def alive_nodes() -> frozenset[str]:
    """Return the ids of the nodes that are there."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


def _check(nodes: list[str], storage: Storage, paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    if not nodes:
        return {}
    folder = f".preflight-{uuid.uuid4().hex}"
    try:
        found = ray.get([_on(node, _look).remote(storage, folder, node, list(paths)) for node in nodes])
        unread = ray.get([_on(node, _read).remote(storage, folder, nodes) for node in nodes])
    finally:
        storage.delete_folder(folder)
    errors = [node["error"] for node in found if node["error"]] + [error for error in unread if error]
    if errors:
        raise InputError(
            f"storage {storage.uri!r} does not serve all {len(nodes)} nodes: {errors[0]}. Use a shared folder or an "
            "object store (s3://...) that every node can reach."
        )
    for node in found:
        check_node(node)
    return dict(zip(nodes, found, strict=True))


def _on(node: str, function: object) -> ray.remote_function.RemoteFunction:
    return ray.remote(function).options(**on_node(node))  # type: ignore[call-overload]


def _look(storage: Storage, folder: str, node: str, paths: list[str]) -> dict[str, Any]:
    """Write to the storage, and return what this node has."""
    return look(storage, folder, node, f"node {ray.util.get_node_ip_address()}", paths)


def _read(storage: Storage, folder: str, nodes: list[str]) -> str | None:
    """Read what the nodes that could write wrote."""
    address = ray.util.get_node_ip_address()
    for node in nodes:
        try:
            content = storage.read_bytes(f"{folder}/{node}")
        except OSError as error:
            return f"node {address} does not see what another node wrote ({error})"
        if content != node.encode():
            return f"node {address} reads other bytes than were written"
    return None


def describe_nodes(nodes: Sequence[dict[str, Any]]) -> str:
    """Return what the cluster has now, in words."""
    free, have = min(node["free_disk_bytes"] for node in nodes), ray.cluster_resources()
    amounts = (
        f"{have.get('CPU', 0):g} CPUs", f"{have.get('GPU', 0):g} GPUs", f"{have.get('memory', 0) / 1e9:.1f} GB memory",
        f"{have.get('object_store_memory', 0) / 1e9:.1f} GB object store", f"{free / 1e9:.0f} GB disk free",
    )
    return f"{len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}: {', '.join(amounts)}"
