"""Recipe fields that name a thing of a registry."""

from typing import Literal

from pydantic import AfterValidator

from s2l_ray.recipe.registry import Registry

Tracker = Literal["tensorboard", "mlflow", "wandb"]


def known_in(registry: Registry, *also: str) -> AfterValidator:
    """Return pydantic's check of a field that names one of these things, or one of a few words."""
    return AfterValidator(lambda name: registry.check(name, also))
