"""Whether the cluster has the capacity for workers, whether it could have it, and waiting for it."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from s2l_ray.errors import InputError
from s2l_ray.execution.bundles import Bundle, describe_total, total, training_bundles
from s2l_ray.execution.ray_internals import abandoned_groups, autoscaling_state
from s2l_ray.progress.notes import note
from s2l_ray.progress.wording import clock
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.recipe.workers import Workers

_FIRST_REPORT_S, _REPORT_S = 3.0, 20.0  # of a wait
_ASK_S, _ROUNDS = 20.0, 2  # of the autoscaler, after which it has seen a request
_FREE_S = 30.0
_GROW_S = 180.0  # what a cloud node takes to start, and some


def needed_bundles(workers: Workers, resources: ResourcesConfig) -> list[Bundle]:
    """Return what a stage cannot do without: its training workers, or one process of its kind."""
    if workers == "training":
        return training_bundles(resources)
    if workers == "none":
        return []
    return [{"CPU": 1, **({"GPU": 1} if resources.use_gpu and workers == "scoring" else {})}]


def check_can_fit(bundles: Sequence[Bundle], *, ask: bool = True) -> None:
    """Refuse workers for which the cluster will never have room.

    Where a node is missing and there is an autoscaler, it is asked for room for a moment: it says of a request that no
    type of node could meet it, and starts nodes for one that it can.

    Parameters
    ----------
    ask
        Whether the autoscaler may be asked; a dry run starts nothing.

    Raises
    ------
    InputError
        Too few nodes can hold one of the workers each takes, and there is no autoscaler, or it cannot help.
    """
    if not bundles or num_fitting(bundles[0]) >= len(bundles):
        return
    assert all(other == bundles[0] for other in bundles), "the workers of a stage are alike"
    each = " and ".join(f"{amount:g} {name}" for name, amount in bundles[0].items())
    has = " and ".join(f"{sum(node.get(name, 0) for node in _alive()):g} {name}s" for name in bundles[0])
    problem = (f"{describe_total(bundles)} are needed, for {len(bundles)} workers of {each} each; the nodes of this "
               f"cluster have {has}")
    remedy = ("lower resources.num_workers or resources.cpus_per_worker, or join another cluster with "
              "resources.ray_address")
    if not autoscaling_state().autoscaler_state_version:
        raise InputError(f"{problem}, and it has no autoscaler: {remedy}")
    if ask and _is_idle() and _is_infeasible(bundles):
        raise InputError(f"{problem}, and its autoscaler has no type of node to add that could hold them: {remedy}")


def num_fitting(bundle: Bundle) -> int:
    """Return for how many of the workers the nodes that are there have room, were nobody else there."""
    return sum(int(min(node.get(name, 0) // amount for name, amount in bundle.items())) for node in _alive())


def _alive() -> list[Mapping[str, float]]:
    """Return what each node has that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _is_idle() -> bool:
    """Return whether nobody uses the cluster; what others hold now may be free later, though no node can be added."""
    have, free = ray.cluster_resources(), ray.available_resources()
    return all(free.get(name, 0) == have.get(name, 0) for name in ("CPU", "GPU"))


def _is_infeasible(bundles: Sequence[Bundle]) -> bool:
    """Ask the autoscaler for the capacity, and return whether it answers that there can be none."""
    first, deadline = autoscaling_state().autoscaler_state_version, time.monotonic() + _ASK_S
    with requested_capacity(bundles) as group:
        while time.monotonic() < deadline and not group.wait(timeout_seconds=0.5):
            state = autoscaling_state()
            if any(request.details.startswith(group.id.hex()) for request in state.infeasible_gang_resource_requests):
                return True
            if state.autoscaler_state_version > first + _ROUNDS:
                return False
    return False


def remove_abandoned_groups() -> None:
    """Give back what placement groups hold whose maker died; Ray itself does so only when their driver has ended."""
    for group in abandoned_groups():
        remove_placement_group(group)


def workers_in_range(name: str, resources: ResourcesConfig, *, wait_for_max: bool) -> int:
    """Return how many training workers of the recipe's range to start now: as many as there is room for.

    With `wait_for_max` a cluster that grows is asked for the most of them, and given some time to have them.

    Raises
    ------
    InputError
        There was no room for the fewest of them in time.
    """
    min_workers, max_workers = resources.min_workers, resources.max_workers
    bundle = training_bundles(resources)[0]
    grows = wait_for_max and autoscaling_state().autoscaler_state_version
    if grows and _has_capacity([bundle] * max_workers, min(_GROW_S, resources.wait_timeout_s)):
        return max_workers
    for count in range(min(max_workers, num_fitting(bundle)), min_workers, -1):
        if _has_capacity([bundle] * count, _FREE_S):  # others may hold a part of what is there
            return count
    wait_for_capacity(name, [bundle] * min_workers, resources.wait_timeout_s)
    return min_workers


@contextlib.contextmanager
def requested_capacity(bundles: Sequence[Bundle]) -> Iterator[PlacementGroup]:
    """Hold room for workers, or have the cluster grow until there is some, while the block runs."""
    group = placement_group([dict(bundle) for bundle in bundles])
    try:
        yield group
    finally:
        remove_placement_group(group)


def _has_capacity(bundles: Sequence[Bundle], timeout_s: float) -> bool:
    with requested_capacity(bundles) as group:
        return bool(group.wait(timeout_seconds=timeout_s))


def wait_for_capacity(name: str, bundles: Sequence[Bundle], timeout_s: float) -> None:
    """Wait until the cluster has room for the workers, so that its autoscaler starts what is missing.

    Raises
    ------
    InputError
        There was no room within `timeout_s` seconds.
    """
    if not bundles:
        return
    waiting = Waiting(name, bundles, timeout_s)
    with requested_capacity(bundles) as group:
        while not group.wait(timeout_seconds=1):
            waiting.report()


class Waiting:
    """A wait for capacity: reported after some seconds and then every 20, and bounded."""

    def __init__(
        self, name: str, bundles: Sequence[Bundle], timeout_s: float = math.inf, *, first_report_s: float | None = None
    ) -> None:
        self._name, self._bundles, self._timeout_s = name, bundles, timeout_s
        self._first_report_s = _FIRST_REPORT_S if first_report_s is None else first_report_s
        self.restart()

    def restart(self) -> None:
        """Nothing was waited for until now."""
        self._since = time.monotonic()
        self._reported = self._since - _REPORT_S + self._first_report_s

    def report(self) -> None:
        """Report what is waited for, where it is time to.

        Raises
        ------
        InputError
            `timeout_s` seconds are over.
        """
        now = time.monotonic()
        waited = now - self._since
        if waited > self._timeout_s:
            raise InputError(f"{self._name}: waited {clock(waited)} (resources.wait_timeout_s={self._timeout_s:g}) for "
                             f"{_describe_missing(self._bundles)}: raise it, or free or add nodes, then run again")
        if now - self._reported >= _REPORT_S:
            self._reported = now
            note(f"{self._name}: waiting for {_describe_missing(self._bundles)}, {clock(waited)}")


def _describe_missing(bundles: Sequence[Bundle]) -> str:
    """Return what workers need, what of it is free, and what the autoscaler is doing about it, in words."""
    free = ray.available_resources()
    wanted = " and ".join(f"{amount:g} {name}s (free {free.get(name, 0):g})" for name, amount in total(bundles).items())
    return f"{wanted}{_coming()}"


def _coming() -> str:
    """Return what the autoscaler is adding, or could not."""
    state = autoscaling_state()
    adding = sum(request.count for request in state.pending_instance_requests) + len(state.pending_instances)
    failed = [request.reason for request in state.failed_instance_requests if request.reason]
    added = f", the autoscaler is adding {adding} {'node' if adding == 1 else 'nodes'}" if adding else ""
    return added + (f", it could not start some: {failed[-1]}" if failed else "")
