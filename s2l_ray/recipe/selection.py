"""The part of the recipe that says how many examples are selected, and by which method."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from s2l_ray.recipe.known import known_in
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.settings import WHERE, Count, Section, Seed
from s2l_ray.recipe.task_rows import RowsOfTask

FOR_ANY = ("per", "shares", "required", "forbidden", "extends")
"""Settings that are no selector's own: every one with a budget takes them."""
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
    shares: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}
    """Share of the budget that a source gives (any selector), for example {gsm8k: 0.3}; all others give the rest."""
    required: list[str] | str | None = None
    """Examples that are chosen in any case: ids, or a file of them (Parquet or JSON Lines with example_id, or text)."""
    forbidden: list[str] | str | None = None
    """Examples that are no candidates: ids, or a file of them."""
    extends: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    """A finished selection of the same storage (select/<this>) that grows by rows which were not there for it."""
    num_clusters: Count | Literal["auto"] = 100
    """k-means clusters K (of each stratum, with stratify_by); auto takes sqrt(N / 2), at most 1000."""
    normalise: Literal["none", "zscore", "ratio"] = "none"
    """Trajectories before clustering: raw as in the paper, z-scored per example, or l_t / l_(t-1)."""
    stratify_by: Literal["source"] | None = None
    """Give each source an equal share first, as S2L's authors' code does; null clusters the whole pool."""
    least_cluster_size: Count = 1
    """Smaller clusters give only what the others have not; S2L's authors' code takes 3, the paper 1."""
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
    task_examples: list[RowsOfTask] = []
    """Solved examples of each task wanted, which the pool's are compared with (representation)."""
    outlier_share: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of the pool, the farthest from their neighbours, that a core-set method leaves out as outliers."""
    bandwidth: Annotated[float, Field(gt=0)] | None = None
    """Kernel width of density sampling, in embedding distance; null takes the median distance of a sample."""
    num_neighbours: Count = 64
    """Nearest neighbours kept for each example (facility location)."""

    @model_validator(mode="after")
    def _task_crosses_sources(self) -> Self:
        if (self.per is not None or self.shares) and self.task_sources:
            raise ValueError(f"task_sources={self.task_sources} picks clusters over all sources: "
                             "leave per and shares unset")
        return self

    @model_validator(mode="after")
    def _extends_its_own(self) -> Self:
        if self.extends is not None and self.controls:
            raise ValueError(f"extends keeps what one selector chose, which controls={self.controls} did not: "
                             "leave them out")
        if self.extends is not None and (self.shares or self.per):
            raise ValueError("extends keeps what was chosen and cannot keep the shares of sources too: leave per and "
                             "shares unset, or start over")
        return self

    @model_validator(mode="after")
    def _tasks_are_distinct(self) -> Self:
        names = [task.name for task in self.task_examples]
        if len(set(names)) < len(names):
            raise ValueError(f"task_examples: names must differ, got {names}")
        return self

    @model_validator(mode="after")
    def _shares_are_parts(self) -> Self:
        if sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError(f"shares={self.shares} sum to {sum(self.shares.values()):g}, which is above 1: lower some")
        return self
