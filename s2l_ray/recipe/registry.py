"""What a recipe or a command names and a file of its own holds: selectors, metrics, row shapes, file formats, trainers.

A registry is a folder. Each module in it holds one thing under the registry's attribute, and is called as it is: adding
one is adding a file. Only what is asked for is imported.
"""

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from s2l_ray.errors import InputError


@dataclass(frozen=True)
class Registry:
    """The things of one kind, by name."""

    what: str
    """What they are called in messages: selector."""
    package: str
    """The folder of their modules, dotted."""
    attribute: str
    """The name that each module holds its thing under."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return all names, sorted, from the folder alone."""
        spec = importlib.util.find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations is not None, self.package
        return tuple(sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)))

    def check(self, name: str, also: Sequence[str] = ()) -> str:
        """Return the name if there is such a thing, or if it is one of a few words beside them.

        Raises
        ------
        InputError
            There is none; the message holds the nearest name and all names.
        """
        known = [*also, *self.names]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"{self.what} {name!r} is unknown; {hint}known: {', '.join(known)}")
        return name

    def find(self, name: str) -> Any:
        """Return the thing of this name; InputError as `check`."""
        module = importlib.import_module(f"{self.package}.{self.check(name)}")
        thing = getattr(module, self.attribute, None)
        assert thing is not None and thing.name == name, f"{module.__name__} must hold {self.attribute}, named {name!r}"
        return thing

    def __iter__(self) -> Iterator[Any]:
        return (self.find(name) for name in self.names)


SELECTORS = Registry("selector", "s2l_ray.selectors.methods", "SELECTOR")
METRICS = Registry("metric", "s2l_ray.metrics.measures", "METRIC")
SHAPES = Registry("row shape", "s2l_ray.rows.shapes", "SHAPE")
FORMATS = Registry("file format", "s2l_ray.rows.files", "FORMAT")
TRAINERS = Registry("trainer", "s2l_ray.export.trainers", "TRAINER")
