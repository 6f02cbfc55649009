"""What a training tells trackers about itself; known to the driver, without torch."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from s2l_ray.recipe.recipe import Recipe


@dataclass(frozen=True)
class Tracked:
    """A training as trackers show it."""

    trackers: tuple[str, ...]
    project: str
    """The run of the recipe: a project of wandb, an experiment of mlflow."""
    name: str
    """Unique in the project: what is trained, and the first letters of its artifact's fingerprint."""
    facts: Mapping[str, Any]
    """The recipe, and what is trained on."""
    id: str
    """The same for all restarts of this training."""

    @property
    def title(self) -> str:
        """Return the name for people: RUN/proxy-1a2b3c4d."""
        return f"{self.project}/{self.name}"

    def parameters(self) -> dict[str, str]:
        """Return the facts flat, as {"recipe.proxy.epochs": "1"}."""
        return dict(_flat(self.facts))


def tracked(recipe: Recipe, what: str, fingerprint: str, facts: Mapping[str, Any]) -> Tracked | None:
    """Return how a training of a recipe is shown; None where it is not.

    Parameters
    ----------
    what
        "proxy", or the arm whose target it is.
    fingerprint
        The artifact's that is made.
    facts
        What is trained on.
    """
    if not recipe.report_to:
        return None
    about = {"trained": what, "fingerprint": fingerprint, **facts, "recipe": recipe.model_dump(mode="json")}
    return Tracked(tuple(recipe.report_to), recipe.name, f"{what}-{fingerprint[:8]}", about, uuid.uuid4().hex[:12])


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    entries = list(inside)
    if not entries:
        yield name, str(value)
    for key, entry in entries:
        yield from _flat(entry, f"{name}.{key}" if name else str(key))
