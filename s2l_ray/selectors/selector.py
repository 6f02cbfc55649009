"""What a selector is, and what it gives back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from s2l_ray.numerics.kmeans import resolve_num_clusters
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.tables.needs import Need


@dataclass(frozen=True)
class Choice:
    """What a selector chose: positions in the pool by rank, and what led to each where it has that."""

    positions_B: np.ndarray
    clusters_B: np.ndarray | None = None
    scores_B: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON-able findings for the report, such as the size and quota of each cluster; `remarks`, texts, are said."""
    quotas_B: np.ndarray | None = None
    """Examples that the cluster of each one gives."""
    distances_B: np.ndarray | None = None
    """Distance of each one to its cluster's centroid."""
    chances_N: np.ndarray | None = None
    """Where equal lots draw from groups: probability of each example of the pool to be chosen, given the groups."""


Control = Literal["chance", "matched chance", "whole pool"]


class Selector(ABC):
    """A method that chooses `budget` examples of a pool.

    The docstring of a subclass says its rule, what it assumes, and what comes of equal values.
    """

    name: ClassVar[str]
    """As its module is called."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What it asks for beside the ids: only that is computed."""
    parameters: ClassVar[frozenset[str]] = frozenset()
    """Fields of SelectionConfig that change its choice, beside budget and seed."""
    takes_budget: ClassVar[bool] = True
    """False for the whole pool, whatever budget is asked for."""
    takes_seed: ClassVar[bool] = False
    """Whether it draws anything; without, every seed gives one choice."""
    is_nested: ClassVar[bool] = True
    """Whether the first b rows of its order are its selection at budget b."""
    control: ClassVar[Control | None] = None
    """What it stands for where others are judged against it; none for a method of its own."""
    title: ClassVar[str] = ""
    """Its name in sentences, where that is not `name`."""

    def check(self, config: SelectionConfig, num_candidates: int, fractions_C: np.ndarray | None) -> None:
        """Refuse settings that cannot serve, as far as that is known before anything is computed.

        Parameters
        ----------
        num_candidates
            The most that there can be.
        fractions_C
            Training fraction of each trajectory point, where trajectories are recorded.

        Raises
        ------
        InputError
            With what to change.
        """
        if "num_clusters" in self.parameters:
            resolve_num_clusters(config.num_clusters, num_candidates)

    @abstractmethod
    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Choose exactly `budget` positions, none twice."""


def highest_first(scores_N: np.ndarray, budget: int) -> Choice:
    """Choose the highest scores, the highest first, equal ones in the pool's order; nested in any larger budget."""
    losses_N = -np.asarray(scores_N, dtype=np.float64)
    last = np.partition(losses_N, budget - 1)[budget - 1]
    near = np.flatnonzero(losses_N <= last)
    positions = near[np.argsort(losses_N[near], kind="stable")][:budget]
    return Choice(positions, scores_B=np.asarray(scores_N)[positions])
