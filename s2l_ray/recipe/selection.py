"""The part of the recipe that says how many examples are selected, and by which method."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from s2l_ray.recipe.known import known_in
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.settings import WHERE, Count, Section, Seed

SelectorName = Annotated[str, known_in(SELECTORS)]


class SelectionConfig(Section):
    """How many examples, and by which method."""

    selector: SelectorName = "s2l"
    """Method that chooses; `s2l selectors` lists them."""
    budget: Count | Annotated[float, Field(gt=0, le=1)] = 0.11
    """Examples to select: a whole number from 1, or a share of the pool above 0 and up to 1 (1.0 is all of it)."""
    seed: Seed | None = None
    """Seed of clustering and sampling; null takes the recipe's seed."""
    controls: list[SelectorName] = []
    """Selectors run beside `selector`, for comparison: for example [random, full]."""
    per: Literal["source"] | None = None
    """Run the selector inside each source, at equal shares of the budget (any selector); null takes the whole pool."""
    num_clusters: Count | Literal["auto"] = 100
    """k-means clusters K (of each stratum, with stratify_by); auto takes sqrt(N / 2), at most 1000."""
    normalise: Literal["none", "zscore", "ratio"] = "none"
    """Trajectories before clustering: raw as in the paper, z-scored per example, or l_t / l_(t-1)."""
    stratify_by: Literal["source"] | None = None
    """Give each source an equal share first, as S2L's authors' code does; null clusters the whole pool."""
    include_initial: bool = False
    """Cluster on the untouched model's loss too (the paper does not)."""
    kmeans_fit_rows: Count = 262_144
    """Rows that k-means is fitted on, drawn with the seed; all rows are then assigned."""
    kmeans_iterations: Count = 20
    """Lloyd iterations of k-means."""
    scores: Annotated[str | None, WHERE] = None
    """Parquet file of example_id and score, for the selector external: highest first."""
    epoch_1_fraction: Annotated[float, Field(gt=0, lt=1)] = 1 / 3
    """Training fraction at which the proxy's first epoch ends (learning percentage): 1 / epochs."""
    task_sources: list[str] = []
    """Sources that stand for the task wanted (ltd): only clusters that hold their examples are drawn from."""
    outlier_share: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of the pool, the farthest from their neighbours, that a core-set method leaves out as outliers."""
    bandwidth: Annotated[float, Field(gt=0)] | None = None
    """Kernel width of density sampling, in embedding distance; null takes the median distance of a sample."""
    num_neighbours: Count = 64
    """Nearest neighbours kept for each example (facility location)."""

    @model_validator(mode="after")
    def _task_crosses_sources(self) -> Self:
        if self.per is not None and self.task_sources:
            raise ValueError(f"task_sources={self.task_sources} picks clusters over all sources: leave per unset")
        return self
