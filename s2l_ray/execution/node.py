"""What a node must have before work goes to it."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from s2l_ray.errors import InputError
from s2l_ray.storage.artifacts import package_versions
from s2l_ray.storage.files import Storage

_MIN_DISK_BYTES = _MIN_MEMORY_BYTES = 1 << 30


def look(storage: Storage, folder: str, name: str, where: str, paths: list[str]) -> dict[str, Any]:
    """Write a file of this name, which is its content too, to a folder of the storage, and return what this node has.

    `where` is what people call the node.
    """
    error = None
    try:
        storage.write_bytes(f"{folder}/{name}", name.encode())
    except OSError as problem:
        error = f"{where} cannot write ({problem})"
    return {
        "where": where, "error": error, "versions": package_versions(), "scratch": tempfile.gettempdir(),
        "missing": [path for path in paths if not Path(path).exists()],
        "free_disk_bytes": shutil.disk_usage(tempfile.gettempdir()).free,
        "free_memory_bytes": psutil.virtual_memory().available,
    }


def check_node(node: Mapping[str, Any]) -> None:
    """Refuse a node that lacks an input, has other versions than we, or less than 1 GiB left of memory or disk.

    Raises
    ------
    InputError
        With the remedy.
    """
    ours, where = package_versions(), node["where"]
    other = {name: theirs for name, theirs in node["versions"].items() if name in ours and ours[name] != theirs}
    absent = sorted(set(ours) - set(node["versions"]))
    if other or absent:
        differ = [f"{name} {theirs} instead of {ours[name]}" for name, theirs in other.items()]
        raise InputError(f"{where} has {', '.join([*differ, *(f'no {name}' for name in absent)])}: install the same "
                         "versions on every node (pip install --constraint constraints.txt)")
    if node["missing"]:
        raise InputError(f"{where} does not see {node['missing'][0]}: use a folder that all nodes share, or a URI "
                         "(s3://...) or hub name")
    if node["free_disk_bytes"] < _MIN_DISK_BYTES:
        raise InputError(f"{where} has {node['free_disk_bytes'] / 1e9:.1f} GB of disk left in {node['scratch']}; at "
                         f"least {_MIN_DISK_BYTES / 1e9:.1f} GB are needed for temporary files: free some")
    if node["free_memory_bytes"] < _MIN_MEMORY_BYTES:
        raise InputError(f"{where} has {node['free_memory_bytes'] / 1e9:.1f} GB of memory left; at least "
                         f"{_MIN_MEMORY_BYTES / 1e9:.1f} GB are needed: end what else runs there, or take larger nodes")


def describe(node: Mapping[str, Any]) -> str:
    """Return what is free on a node, in words."""
    return f"{node['free_memory_bytes'] / 1e9:.1f} GB memory free, {node['free_disk_bytes'] / 1e9:.0f} GB disk free"
