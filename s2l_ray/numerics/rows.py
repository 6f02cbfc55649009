"""Rows of numbers that are read in blocks: an array's, or those of a table larger than memory."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import numpy as np

from s2l_ray.tables.chunked_table import in_order

_BLOCK_ROWS = 2**18

Positions = slice | np.ndarray
Result = TypeVar("Result")


class Rows(Protocol):
    """What is asked of N rows of C numbers, at positions 0 to N - 1."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (N, C)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        """Return the rows at these positions."""
        ...

    def each(self, work: Callable[[Positions, np.ndarray], Result]) -> Iterator[Result]:
        """Yield work(positions, rows) for blocks that hold every row once; two are at work at a time."""
        ...


class ArrayRows:
    """The rows of an array."""

    def __init__(self, rows_NC: np.ndarray) -> None:
        self._rows_NC = rows_NC
        self.shape: tuple[int, int] = rows_NC.shape  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._rows_NC)

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        """Return the rows at these positions."""
        return self._rows_NC[positions]

    def each(self, work: Callable[[Positions, np.ndarray], Result]) -> Iterator[Result]:
        """Yield work(positions, rows) for consecutive blocks; two are at work at a time."""
        blocks = (slice(start, start + _BLOCK_ROWS) for start in range(0, len(self), _BLOCK_ROWS))
        return in_order(lambda block: work(block, self._rows_NC[block]), blocks)
