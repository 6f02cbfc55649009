"""Held-out rows, one after another: with what they would teach, where gold answers are read, and as leaks are found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.rows.compared import Texts, texts_of
from s2l_ray.rows.conversation import BadRow, digest
from s2l_ray.rows.first_rows import find_shape
from s2l_ray.rows.hub import scan_pool
from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.scanning import ROWS_PER_UNIT
from s2l_ray.rows.shape import to_conversation
from s2l_ray.rows.units import FileScan, plan_units, sample_units
from s2l_ray.storage.files import Storage


@dataclass(frozen=True)
class HeldOutRow:
    """A held-out row as it is compared with others."""

    file: str
    row: int
    key: str
    """What equal conversations share."""
    texts: Texts


@dataclass(frozen=True)
class HeldOutRows:
    """The rows that a task is evaluated on, as they are read."""

    task: str
    data: DataConfig
    scans: tuple[FileScan, ...]
    shape: str
    seed: int

    @classmethod
    def scanned(cls, storage: Storage, task: str, data: DataConfig, seed: int) -> "HeldOutRows":
        """Scan a task's files; InputError as `scan_pool` and `find_shape`."""
        scans = scan_pool(storage, data)
        return cls(task, data, scans, find_shape(scans, data), seed)

    @property
    def identity(self) -> dict[str, Any]:
        """Return what decides which rows these are, and how they are read."""
        files = [[scan.name, scan.sha256] for scan in self.scans]
        seed = {"seed": self.seed} if self.data.limit else {}
        return {"task": self.task, "format": self.shape, "files": files, **seed,
                **self.data.identity_of("columns", "roles", "limit")}

    def read(self) -> Iterator[HeldOutRow]:
        """Yield the rows that can be read."""
        for unit, keep in sample_units(self.scans, ROWS_PER_UNIT, self.data.limit, self.seed):
            for raw in read_unit(unit, keep):
                try:
                    found = to_conversation(raw.value or {}, self.shape, self.data.columns, self.data.roles)
                except BadRow:
                    continue  # the task's own prepare says why
                yield HeldOutRow(raw.file, raw.row, digest(found), texts_of(found))


def held_out_of(storage: Storage, recipe: Recipe) -> tuple[HeldOutRows, ...]:
    """Return the rows of each task that the pool is searched for; none with `data.decontaminate` off.

    Raises
    ------
    InputError
        A task's rows cannot be read.
    """
    tasks = recipe.evaluation.tasks if recipe.data.decontaminate else []
    try:
        return tuple(HeldOutRows.scanned(storage, task.name, task.data(recipe.data), recipe.seed) for task in tasks)
    except InputError as error:
        raise InputError(f"{error}. The pool is searched for rows of the evaluation's tasks (data.decontaminate=false "
                         "does without)") from error


def held_out_rows(
    scans: Sequence[FileScan], shape: str, data: DataConfig
) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield (place, row, response) of all rows that can be read; the response is "" where the row gives none."""
    for unit in plan_units(scans, ROWS_PER_UNIT):
        for raw in read_unit(unit):
            if raw.value is not None:
                yield f"{raw.file} row {raw.row}", raw.value, response_of(raw.value, shape, data)


def response_of(row: Mapping[str, Any], shape: str, data: DataConfig) -> str:
    """Return the last answer of a row's conversation, "" where the row gives none: prepare says why."""
    try:
        return to_conversation(row, shape, data.columns, data.roles).turns[-1].content
    except BadRow:
        return ""
