"""Counters that Prometheus reads from Ray's own endpoint on each node: ray_s2l_units, ray_s2l_tokens."""

import functools
from collections.abc import Mapping

from ray.util.metrics import Counter

_WHAT = {"units": "Units of work done, such as shards.", "tokens": "Tokens scored, over all trajectory points."}


def count_for_prometheus(stage: str, amounts: Mapping[str, int]) -> None:
    """Add to the counters of a stage; a rate over time is the speed (tokens a second)."""
    for name, amount in amounts.items():
        if amount:
            _counter(name).inc(amount, tags={"stage": stage})


@functools.cache
def _counter(name: str) -> Counter:
    return Counter(f"s2l_{name}", description=_WHAT[name], tag_keys=("stage",))
