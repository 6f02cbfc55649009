"""How far a stage is: a bar on a terminal, plain lines in a log."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from s2l_ray.progress.notes import CONSOLE, note
from s2l_ray.progress.wording import clock

_LINE_INTERVAL_S = 5.0


@dataclass
class Task:
    """Progress of one stage; call `update` as often as you like."""

    name: str
    total: int
    unit: str
    bar: Progress | None = None
    bar_id: TaskID | None = None
    _started: float = field(default_factory=time.monotonic)
    _spoken: float = field(default_factory=time.monotonic)
    _first: int | None = None

    def update(self, done: int, facts: Mapping[str, float] | None = None) -> None:
        """Show that `done` of `total` units are done, with figures such as {"loss": 1.2}."""
        text = "  ".join(f"{name} {value:,.4g}" if value < 1000 else f"{name} {value:,.0f}"
                         for name, value in (facts or {}).items())
        if self.bar is not None and self.bar_id is not None:
            self.bar.update(self.bar_id, completed=done, facts=text)
            return
        now = time.monotonic()
        if self._first is None:  # what an earlier run did says nothing about this one's speed
            self._first, self._started = done, now
        if now - self._spoken >= _LINE_INTERVAL_S and done < self.total:
            self._spoken = now
            parts = (f"{self.name}: {done:,}/{self.total:,} {self.unit}", text, f"ETA {self._eta(done, now)}")
            note("  ".join(part for part in parts if part))

    def _eta(self, done: int, now: float) -> str:
        fresh = done - (self._first or 0)
        return clock((now - self._started) / fresh * (self.total - done)) if fresh > 0 else "unknown"


@contextlib.contextmanager
def task(name: str, total: int, unit: str) -> Iterator[Task]:
    """Show the progress of one stage while the block runs."""
    if not sys.stderr.isatty():
        yield Task(name, total, unit)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
               TextColumn("{task.fields[facts]}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=CONSOLE, transient=True) as bar:
        yield Task(name, total, unit, bar, bar.add_task(name, total=total, facts=""))
