"""The candidate pool, what a selector makes of it, and what a selector is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa

from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors.stored import StoredIds, StoredLosses


@dataclass(frozen=True)
class Pool:
    """The candidate pool, ordered by a hash of the ids.

    So no result depends on the order of the input, and ties favour no source.
    """

    example_ids: pa.Array | StoredIds
    """The N ids, in the pool's order, as are all columns."""
    sources: pa.Array | None = None
    """The source of each example."""
    losses_NC: np.ndarray | StoredLosses | None = None
    """Loss trajectories in nats, oldest point first, where the selector requires them; indexed as an array is."""
    fractions_C: np.ndarray | None = None
    """Training fraction of each point, where known; 0 is the untouched model."""
    embeddings_ND: np.ndarray | None = None
    """Unit-length float32 embeddings, where the selector requires them."""
    lengths_N: np.ndarray | None = None
    """Supervised tokens of each example, where the selector requires lengths."""
    scores_N: np.ndarray | None = None
    """A score from elsewhere, where the selector requires scores."""
    probes: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further losses in nats, (N,) float64, by the names of `tables.PROBES` that the selector requires."""

    def __len__(self) -> int:
        return len(self.example_ids)

    def take(self, positions: np.ndarray) -> "Pool":
        """Return the pool of these positions alone; they must ascend, so that its order is the same."""

        def rows(values: np.ndarray | StoredLosses | None) -> np.ndarray | None:
            return None if values is None else values[positions]

        return Pool(
            self.example_ids.take(pa.array(positions)),
            None if self.sources is None else self.sources.take(pa.array(positions)),
            rows(self.losses_NC),
            self.fractions_C,
            rows(self.embeddings_ND),
            rows(self.lengths_N),
            rows(self.scores_N),
            {name: losses_N[positions] for name, losses_N in self.probes.items()},
        )


@dataclass(frozen=True)
class Choice:
    """What a selector chose: positions in the pool by rank, and what led to each where it has that."""

    positions_B: np.ndarray
    clusters_B: np.ndarray | None = None
    scores_B: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON-able findings for the report, such as the size and quota of each cluster."""
    quotas_B: np.ndarray | None = None
    """Examples that the cluster of each one gives."""
    distances_B: np.ndarray | None = None
    """Distance of each one to its cluster's centroid."""


class Selector(Protocol):
    """A method that chooses `budget` examples of a pool."""

    name: ClassVar[str]
    requires: ClassVar[frozenset[str]]
    """What it needs beside the ids, of trajectories, embeddings, lengths, scores, sources and the names of
    `tables.PROBES`: only that is computed."""
    parameters: ClassVar[frozenset[str]]
    """Fields of SelectionConfig that change its choice, beside budget and seed."""
    is_nested: ClassVar[bool]
    """Whether the first b rows of its order are its selection at budget b."""

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Choose exactly `budget` positions, none twice."""
        ...


def highest_first(scores_N: np.ndarray, budget: int) -> Choice:
    """Choose the highest scores, the highest first, equal ones in the pool's order; nested in any larger budget."""
    losses_N = -np.asarray(scores_N, dtype=np.float64)
    last = np.partition(losses_N, budget - 1)[budget - 1]
    near = np.flatnonzero(losses_N <= last)
    positions = near[np.argsort(losses_N[near], kind="stable")][:budget]
    return Choice(positions, scores_B=np.asarray(scores_N)[positions])
