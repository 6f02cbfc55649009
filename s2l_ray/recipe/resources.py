"""The part of the recipe about workers and hardware, which changes nothing of what comes out."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from s2l_ray.recipe.settings import WHERE, Count, Section


class ResourcesConfig(Section):
    """Workers and hardware; nothing here changes what comes out."""

    num_workers: Annotated[int | tuple[int, int], WHERE] = 1
    """Training processes (data parallel); [2, 8] lets a training have as many of them as there is room for."""
    cpus_per_worker: Annotated[Count, WHERE] = 1
    """CPU cores, and torch threads, of one training process."""
    use_gpu: Annotated[bool, WHERE] = False
    """One GPU for each training and scoring worker."""
    num_scoring_workers: Annotated[Count | None, WHERE] = None
    """Most processes that score and generate; null takes as many as the cluster has room for."""
    max_failures: Annotated[int, Field(ge=0), WHERE] = 3
    """Times a training run is restarted from its newest checkpoint after a lost worker."""
    wait_timeout_s: Annotated[float, Field(gt=0), WHERE] = 600.0
    """Seconds to wait for room for a stage, for example while cloud nodes start, before the run ends."""
    ray_address: Annotated[str | None, WHERE] = None
    """Ray cluster to join; "local" starts one; null joins RAY_ADDRESS's, and without one takes this machine alone."""

    @field_validator("num_workers", mode="before")
    @classmethod
    def _a_count_or_fewest_and_most(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return value  # refused as in every field
        counts = list(value) if isinstance(value, list | tuple) else [value]
        whole = all(type(count) is int and count >= 1 for count in counts)
        if not whole or len(counts) not in (1, 2) or counts != sorted(set(counts)):
            raise ValueError(f"{value!r} must be a number of workers from 1, or the fewest and the most such as [1, 4]")
        return tuple(counts) if len(counts) == 2 else counts[0]

    @property
    def min_workers(self) -> int:
        """Return the training processes that there are always."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def max_workers(self) -> int:
        """Return the training processes that there may come to be."""
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers
