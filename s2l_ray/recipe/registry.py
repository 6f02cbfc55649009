"""What a recipe or a command names and a file of its own holds: selectors, metrics, row shapes, file formats, trainers.

A registry is a folder. Each module in it holds one thing under the registry's attribute, and is called as it is: adding
one is adding a file. Other installed packages add theirs by entry points. Only what is asked for is imported.
"""

import difflib
import importlib
import importlib.util
import logging
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.storage.packages import Offer, offers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registry:
    """The things of one kind, by name.

    One that another package offers and that cannot be used is broken: an error for who names it, and for nobody else.
    """

    what: str
    """What they are called in messages: selector."""
    package: str
    """The folder of their modules, dotted."""
    attribute: str
    """The name that each module holds its thing under."""
    kind: str = ""
    """Their class, dotted, where other packages may add some."""
    taken: frozenset[str] = frozenset()
    """Names that nobody may give: where these things are named, they stand for something else."""
    _tried: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Of other packages: what was loaded, or the error that came instead."""
    _loaded: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Of ours: what was loaded."""

    @property
    def group(self) -> str:
        """Return the group of the entry points by which others add theirs: s2l_ray.selectors."""
        return f"s2l_ray.{self.attribute.lower()}s"

    @cached_property
    def own(self) -> tuple[str, ...]:
        """Return the names of ours, sorted, from the folder alone."""
        spec = importlib.util.find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations is not None, self.package
        return tuple(sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)))

    @cached_property
    def offered(self) -> dict[str, list[Offer]]:
        """Return what other packages offer, by name, sorted; nothing of it is imported."""
        found: dict[str, list[Offer]] = {}
        for offer in offers() if self.kind else ():
            if offer.group == self.group:
                found.setdefault(offer.name, []).append(offer)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names, ours before those of other packages; nothing is imported."""
        return (*self.own, *(name for name in self.offered if name not in self.own))

    @property
    def broken(self) -> dict[str, str]:
        """Return the names that cannot be used, with the reason; what other packages offer is imported for that."""
        found = {}
        for name in self.offered:
            try:
                self.find(name)
            except InputError as error:
                found[name] = str(error)
        return found

    def check(self, name: str, also: Sequence[str] = ()) -> str:
        """Return the name if there is such a thing, or if it is one of a few words beside them.

        Raises
        ------
        InputError
            There is none, with the nearest name and all names; or it is broken, with the reason.
        """
        if name in also:
            return name
        if name in self.offered:
            self.find(name)
        elif name not in self.own:
            raise InputError(self._unknown(name, also))
        return name

    def find(self, name: str) -> Any:
        """Return the thing of this name; InputError as `check`."""
        if name in self.offered:
            return self._found_in_package(name)
        if name in self._loaded:  # asked for with every row
            return self._loaded[name]
        if name not in self.own:
            raise InputError(self._unknown(name))
        module = importlib.import_module(f"{self.package}.{name}")
        thing = getattr(module, self.attribute, None)
        assert thing is not None and thing.name == name, f"{module.__name__} must hold {self.attribute}, named {name!r}"
        self._loaded[name] = thing
        return thing

    def get(self, name: object) -> Any | None:
        """Return the thing of this name, None where there is none or it is broken: for names in old records."""
        try:
            return self.find(str(name))
        except InputError:
            return None

    def identity_of(self, *names: str) -> dict[str, Any]:
        """Return what fingerprints say of the packages that these come from: nothing of ours, of others the version."""
        found = {name: str(self.offered[name][0]) for name in names if name in self.offered}
        return {"plugins": found} if found else {}

    def __iter__(self) -> Iterator[Any]:
        """Give all that can be used; what is broken is told to the log, once."""
        for name in self.names:
            is_new = name in self.offered and name not in self._tried
            thing = self.get(name)
            if thing is not None:
                yield thing
            elif is_new:
                logger.warning("left out: %s", self._tried[name])

    def _found_in_package(self, name: str) -> Any:
        if name not in self._tried:
            try:
                self._tried[name] = self._load(name)
            except InputError as error:
                self._tried[name] = error
        found = self._tried[name]
        if isinstance(found, InputError):
            raise InputError(str(found)) from found
        return found

    def _load(self, name: str) -> Any:
        """Import what another package offers, and see whether it is what it should be."""
        offer, *others = self.offered[name]
        givers = [*(["s2l-ray"] if name in self.own else []), str(offer), *map(str, others)]
        if len(givers) > 1:
            raise InputError(f"{self.what} {name!r} is offered by {' and '.join(givers)}: uninstall one of them, or "
                             "have it give its own another name")
        where = f"{self.what} {name!r} of {offer} (entry point {offer.entry.value})"
        if not name.isidentifier() or name in self.taken:
            also = f", and none of {', '.join(sorted(self.taken))}" if self.taken else ""
            raise InputError(f"{where} needs another name: of letters, digits and underscores{also}")
        try:
            thing = offer.entry.load()
        except (Exception, SystemExit) as error:  # of anybody's code
            raise InputError(f"{where} cannot be loaded: {type(error).__name__}: {error}; repair that package or "
                             "uninstall it") from error
        module, _, kind = self.kind.rpartition(".")
        if not isinstance(thing, getattr(importlib.import_module(module), kind)):
            what = f"the class {thing.__name__}" if isinstance(thing, type) else f"of type {type(thing).__name__}"
            raise InputError(f"{where} is {what}: the entry point must name an object whose class is a {self.kind}")
        if getattr(thing, "name", None) != name:
            raise InputError(f"{where} has name={getattr(thing, 'name', None)!r} in its class: both must be the same")
        return thing

    def _unknown(self, name: str, also: Sequence[str] = ()) -> str:
        known = [*also, *self.names]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        broken = self.broken
        listed = ", ".join(f"{one} (broken)" if one in broken else one for one in known)
        elsewhere = "; one of another package is known where that is installed" if self.kind else ""
        return f"{self.what} {name!r} is unknown; {hint}known: {listed}{elsewhere}"


SELECTORS = Registry("selector", "s2l_ray.selectors.methods", "SELECTOR", "s2l_ray.selectors.selector.Selector",
                     frozenset({"base"}))
METRICS = Registry("metric", "s2l_ray.metrics.measures", "METRIC", "s2l_ray.metrics.metric.Metric", frozenset(
    {"task", "example_id", "source", "prediction", "reference", "answer", "disagreement", "option_losses"}))
SHAPES = Registry("row shape", "s2l_ray.rows.shapes", "SHAPE", "s2l_ray.rows.shape.Shape", frozenset({"auto"}))
FORMATS = Registry("file format", "s2l_ray.rows.files", "FORMAT")
TRAINERS = Registry("trainer", "s2l_ray.export.trainers", "TRAINER", "s2l_ray.export.trainer.Trainer")
