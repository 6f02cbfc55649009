"""What workers take of a node."""

from collections.abc import Mapping, Sequence

from s2l_ray.recipe.resources import ResourcesConfig

Bundle = Mapping[str, float]
"""What one worker takes of a node: Ray's resource -> amount."""


def training_bundles(resources: ResourcesConfig) -> list[Bundle]:
    """Return what each of the training workers takes, of the fewest that there must be."""
    worker = {"CPU": resources.cpus_per_worker, **({"GPU": 1} if resources.use_gpu else {})}
    return [worker] * resources.min_workers


def total(bundles: Sequence[Bundle]) -> dict[str, float]:
    """Return the sum of what workers take, by resource."""
    names = dict.fromkeys(name for bundle in bundles for name in bundle)
    return {name: sum(bundle.get(name, 0) for bundle in bundles) for name in names}


def describe_total(bundles: Sequence[Bundle]) -> str:
    """Return the sum of what workers take, in words: 4 CPUs and 4 GPUs."""
    return " and ".join(f"{amount:g} {name}s" for name, amount in total(bundles).items())
