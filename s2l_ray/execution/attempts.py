"""How often a unit of work has been begun: one that fails, or kills its process, is not begun for ever."""

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import ray

from s2l_ray.errors import InputError
from s2l_ray.execution.placement import on_this_node

MAX_ATTEMPTS = 3
MAX_FAILING = 8  # units; beyond that it is not the units that are bad


class UnitError(RuntimeError):
    """A unit failed at every attempt; all others are done and kept."""


@ray.remote
class _Count:
    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, unit: int) -> int:
        self._begun[unit] += 1
        return self._begun[unit]


@contextlib.contextmanager
def counted_attempts() -> Iterator[Any]:
    """Have an actor on the driver's node that counts attempts; Ray itself repeats a lost process's unit for ever."""
    count = _Count.options(**on_this_node()).remote()  # type: ignore[attr-defined]
    try:
        yield count
    finally:
        ray.kill(count)


def attempt(count: Any, unit: int, worker: Any, work: Any) -> Mapping[str, Any]:
    """Do a unit of work and return its row, or {"error", "trace"} where it failed or was begun too often.

    Raises
    ------
    InputError
        The user's to fix: another attempt would end the same.
    """
    begun = ray.get(count.begin.remote(unit))
    if begun > MAX_ATTEMPTS:
        died = f"its process died {MAX_ATTEMPTS} times (out of memory, or a crash in a library)"
        return {"unit": unit, "error": died, "trace": ""}
    try:
        return {"unit": unit, **worker.run(work)}
    except InputError:
        raise
    except Exception as error:  # reported to the driver, which has the unit done again or stops with it
        return {"unit": unit, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


def describe_failure(name: str, row: Mapping[str, Any], described: str, num_failed: int) -> str:
    """Return the message about a stage's failed units: the first one's name and reason."""
    others = f" and {num_failed - 1} more" if num_failed > 1 else ""
    return f"{name}: {described}{others} failed: {row['error']}"


def unit_error(message: str, row: Mapping[str, Any]) -> UnitError:
    """Return the error that ends a stage for its failed units."""
    error = UnitError(f"{message}. What is finished is kept: fix the cause and run again")
    if row["trace"]:
        error.add_note(row["trace"])
    return error
