"""Is there room in the cluster, could there be, and what is waited for."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.util.placement_group import placement_group, remove_placement_group

from s2l_ray.config import ResourcesConfig
from s2l_ray.errors import InputError
from s2l_ray.progress import clock, note

Bundle = Mapping[str, float]
"""What one worker takes of a node: Ray's resource -> amount."""

_SAY_S = 20.0
_FREE_S = 10.0
_GROW_S = 180.0  # what a cloud node takes to start, and some


def training_bundles(resources: ResourcesConfig) -> list[Bundle]:
    """Return what each of the training workers takes, of the fewest that there must be."""
    worker = {"CPU": resources.cpus_per_worker, **({"GPU": 1} if resources.use_gpu else {})}
    return [worker] * resources.least_workers


def stage_bundles(stage: str, resources: ResourcesConfig) -> list[Bundle]:
    """Return what a stage cannot do without: its training workers, or one process that scores."""
    if stage in ("proxy", "finetune"):
        return training_bundles(resources)
    if stage == "select":
        return []
    return [{"CPU": 1, **({"GPU": 1} if resources.use_gpu and stage != "prepare" else {})}]


def total(bundles: Sequence[Bundle]) -> dict[str, float]:
    """Return the sum of what workers take, by resource."""
    names = dict.fromkeys(name for bundle in bundles for name in bundle)
    return {name: sum(bundle.get(name, 0) for bundle in bundles) for name in names}


def say_total(bundles: Sequence[Bundle]) -> str:
    """Return the sum of what workers take, in words: 4 CPUs and 4 GPUs."""
    return " and ".join(f"{amount:g} {name}s" for name, amount in total(bundles).items())


def check_can_fit(bundles: Sequence[Bundle]) -> None:
    """Refuse workers for which the cluster will never have room, with all nodes that it may start.

    Raises
    ------
    InputError
        Too few of its nodes, and of those that its autoscaler may add, can hold one of the workers each takes.
    """
    if not bundles:
        return
    bundle, shapes = bundles[0], _node_shapes()
    assert all(other == bundle for other in bundles), "the workers of a stage are alike"
    room = sum(_fits(bundle, shape) * count for shape, count in shapes)
    if room >= len(bundles):
        return
    most = {name: sum(shape.get(name, 0) * count for shape, count in shapes) for name in bundle}
    has = " and ".join(f"{amount:g} {name}s" for name, amount in most.items())
    each = " and ".join(f"{amount:g} {name}" for name, amount in bundle.items())
    raise InputError(
        f"{say_total(bundles)} are needed, for {len(bundles)} workers of {each} each; this cluster has at most {has}, "
        f"room for {room} such workers: lower resources.num_workers or resources.cpus_per_worker, or join another "
        "cluster with resources.ray_address"
    )


def _fits(bundle: Bundle, shape: Mapping[str, float]) -> int:
    return int(min(shape.get(name, 0) // amount for name, amount in bundle.items()))


def _node_shapes() -> list[tuple[Mapping[str, float], int]]:
    """Return the resources of each node, and how often it is there or may come to be."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    groups = _groups()
    if not groups:
        return [(shape, 1) for shape in alive]
    # The head is of no group that grows. Of the rest, what is there counts among what may be.
    head = [(shape, 1) for shape in alive if "node:__internal_head__" in shape]
    return head + [(dict(group.resources), _most(group.max_count)) for group in groups if group.max_count]


def _groups() -> Sequence[Any]:
    """Return what the autoscaler may add: groups of nodes with resources and max_count; none where there is none."""
    config = ray._private.state.state.get_cluster_config()
    return list(config.node_group_configs) if config is not None else []


def _most(max_count: int) -> int:
    return 1_000_000 if max_count < 0 else max_count  # below zero: as many as are asked for


def workers_in_range(name: str, resources: ResourcesConfig) -> int:
    """Return how many training workers of the recipe's range to start now: as many as there is room for.

    A cluster that grows is asked for the most of them, and given some time to have them.

    Raises
    ------
    InputError
        There was no room for the fewest of them in time.
    """
    least, most = resources.least_workers, resources.most_workers
    bundle = training_bundles(resources)[0]
    there = sum(_fits(bundle, node["Resources"]) for node in ray.nodes() if node["Alive"])
    if _groups():
        if _has_room([bundle] * most, min(_GROW_S, resources.wait_timeout_s)):
            return most
        there = sum(_fits(bundle, node["Resources"]) for node in ray.nodes() if node["Alive"])
    for count in range(min(most, there), least, -1):
        if _has_room([bundle] * count, _FREE_S):  # others may hold a part of what is there
            return count
    wait_for_room(name, [bundle] * least, resources.wait_timeout_s)
    return least


def _has_room(bundles: Sequence[Bundle], timeout_s: float) -> bool:
    group = placement_group([dict(bundle) for bundle in bundles])
    try:
        return bool(group.wait(timeout_seconds=timeout_s))
    finally:
        remove_placement_group(group)


def wait_for_room(name: str, bundles: Sequence[Bundle], timeout_s: float) -> None:
    """Wait until the cluster has room for the workers, so that its autoscaler starts what is missing.

    Raises
    ------
    InputError
        There was no room within `timeout_s` seconds.
    """
    if not bundles:
        return
    started = said = time.monotonic()
    group = placement_group([dict(bundle) for bundle in bundles])
    try:
        while not group.wait(timeout_seconds=1):
            waited, now = time.monotonic() - started, time.monotonic()
            if waited > timeout_s:
                raise InputError(f"{name}: waited {clock(waited)} (resources.wait_timeout_s={timeout_s:g}) for "
                                 f"{say_missing(bundles)}: raise the time, or free or add nodes, then run again")
            if now - said >= _SAY_S:
                said = now
                note(f"{name}: waiting for {say_missing(bundles)}, {clock(waited)}")
    finally:
        remove_placement_group(group)


def say_missing(bundles: Sequence[Bundle]) -> str:
    """Return what workers need, what of it is free, and what the autoscaler is doing about it, in words."""
    free = ray.available_resources()
    wanted = " and ".join(f"{amount:g} {name}s (free {free.get(name, 0):g})" for name, amount in total(bundles).items())
    return f"{wanted}{_coming()}"


def _coming() -> str:
    """Return what the autoscaler is adding, or could not."""
    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    adding = sum(request.count for request in status.pending_launches) + len(status.pending_nodes)
    failed = [request.details for request in status.failed_launches if request.details]
    said = f", the autoscaler is adding {adding} {'node' if adding == 1 else 'nodes'}" if adding else ""
    return said + (f", it could not start some: {failed[-1]}" if failed else "")
