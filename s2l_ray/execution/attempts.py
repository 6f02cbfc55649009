"""A unit of work done once, and what is said of those that fail: one that does is not begun for ever."""

import traceback
from collections.abc import Mapping
from typing import Any, Protocol

from s2l_ray.errors import InputError

MAX_ATTEMPTS = 3
MAX_FAILING = 8  # units; beyond that it is not the units that are bad
STUCK_S = 3600
STUCK = ("nothing was finished for over an hour: a unit takes longer than that (lower data.shard_rows), or its process "
         "hangs. What is finished is kept")


class UnitError(RuntimeError):
    """A unit failed at every attempt; all others are done and kept."""


class Worker(Protocol):
    """What does the work: loads what it needs once, then does one unit at a time."""

    def run(self, unit: Any) -> Mapping[str, Any]:
        """Do one unit and return a small row of plain values about it."""
        ...


def attempt(unit: int, worker: Worker, work: Any) -> Mapping[str, Any]:
    """Do a unit of work and return its row, or {"error", "trace"} where it failed.

    Raises
    ------
    InputError
        The user's to fix: another attempt would end the same.
    """
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
