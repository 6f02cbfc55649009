"""What other installed packages add to ours: their entry points, found without importing any of them."""

import importlib.metadata
import logging
import re
from dataclasses import dataclass, field
from functools import cache

_PREFIX = "s2l_ray."
logger = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class Offer:
    """A thing that a package offers under a name."""

    group: str
    """Of entry points: s2l_ray.selectors."""
    name: str
    package: str
    """As pip calls it."""
    version: str
    entry: importlib.metadata.EntryPoint = field(compare=False, repr=False)
    """Imports it when it is asked to."""

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@cache
def offers() -> tuple[Offer, ...]:
    """Return what all installed packages offer us, in order; the disk is looked at once in a process.

    Of a package that is there twice the first on the path counts, as for Python itself. One whose entry points cannot
    be read is named in the log and left out.
    """
    found: dict[str, list[Offer]] = {}
    for distribution in importlib.metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt")
            if not text or f"[{_PREFIX}" not in text:  # most packages: their names and versions are not read at all
                continue
            package, version = str(distribution.name), str(distribution.version)
            own = [Offer(entry.group, entry.name, package, version, entry) for entry in distribution.entry_points
                   if entry.group.startswith(_PREFIX)]
        except Exception as error:  # a file of anybody's, damaged in whatever way
            place = getattr(distribution, "_path", "a package")
            logger.warning("%s: its entry points cannot be read (%s: %s)", place, type(error).__name__, error)
            continue
        found.setdefault(re.sub(r"[-_.]+", "-", package).lower(), own)
    return tuple(sorted(offer for own in found.values() for offer in own))


def offering_packages() -> dict[str, str]:
    """Return the version of each package that offers us anything, by its name."""
    return {offer.package: offer.version for offer in offers()}
