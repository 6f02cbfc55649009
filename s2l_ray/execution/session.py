"""Where the work of a run is done: on this machine alone, or on a Ray cluster."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from s2l_ray.execution.local.machine import machine_session, this_machine
from s2l_ray.progress.notes import note
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.recipe.workers import Workers
from s2l_ray.storage.files import Storage


class Place(Protocol):
    """Where work is done."""

    def check(self, kinds: Sequence[Workers], *, ask: bool = True) -> None:
        """Prove that it can do the work of these workers, or raise InputError."""
        ...

    def make_ready(self, label: str, workers: Workers) -> None:
        """Wait until there is room for a stage."""
        ...

    def describe(self) -> str:
        """Return what it has, in words."""
        ...


def is_alone(resources: ResourcesConfig) -> bool:
    """Tell whether the work needs no Ray: no cluster is named or joined, and there is no GPU to share out."""
    return not (_is_joined() or resources.use_gpu or resources.ray_address or os.environ.get("RAY_ADDRESS"))


@contextlib.contextmanager
def session(
    resources: ResourcesConfig, storage: Storage, paths: Sequence[str] = (), first: Callable[[], None] = lambda: None
) -> Iterator[Place]:
    """Have a place for the work of the block.

    Parameters
    ----------
    paths
        Files and folders of this machine that the work reads.
    first
        Called before Ray or any worker starts; what loads the libraries of workers on this machine does so meanwhile.
    """
    machine = this_machine()
    if machine is not None:
        first()
        yield machine
    elif is_alone(resources):
        with machine_session(storage, paths) as machine:
            first()
            yield machine
    else:
        from s2l_ray.execution.cluster import ray_session  # heavy: Ray

        first()
        if not _is_joined():
            note("starting Ray ...")
        with ray_session(resources, storage, paths) as cluster:
            yield cluster


def _is_joined() -> bool:
    """Tell whether this process is connected to a Ray cluster."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
