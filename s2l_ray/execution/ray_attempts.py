"""How often a unit of work has been begun: Ray itself repeats a lost process's unit for ever."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import ray

from s2l_ray.execution.attempts import MAX_ATTEMPTS, attempt
from s2l_ray.execution.placement import on_this_node


@ray.remote
class _Count:
    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, unit: int) -> int:
        self._begun[unit] += 1
        return self._begun[unit]


@contextlib.contextmanager
def counted_attempts() -> Iterator[Any]:
    """Have an actor on the driver's node that counts attempts."""
    count = _Count.options(**on_this_node()).remote()  # type: ignore[attr-defined]
    try:
        yield count
    finally:
        ray.kill(count)


def counted_attempt(count: Any, unit: int, worker: Any, work: Any) -> Mapping[str, Any]:
    """Do a unit of work as `attempt`, unless it was begun too often."""
    if ray.get(count.begin.remote(unit)) > MAX_ATTEMPTS:
        died = f"its process died {MAX_ATTEMPTS} times (out of memory, or a crash in a library)"
        return {"unit": unit, "error": died, "trace": ""}
    return attempt(unit, worker, work)
