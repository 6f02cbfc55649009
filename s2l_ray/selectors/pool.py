"""The candidate pool that a selector is given."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
    """Loss trajectories in nats, oldest point first, where the selector needs them; indexed as an array is."""
    fractions_C: np.ndarray | None = None
    """Training fraction of each point, where known; 0 is the untouched model."""
    embeddings_ND: np.ndarray | None = None
    """Unit-length float32 embeddings, where the selector needs them."""
    lengths_N: np.ndarray | None = None
    """Supervised tokens of each example, where the selector needs lengths."""
    scores_N: np.ndarray | None = None
    """A score from elsewhere, where the selector needs scores."""
    probes: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further losses in nats, (N,) float64, by what the selector needs of `tables.needs.PROBES`."""
    tasks: tuple[np.ndarray, ...] = ()
    """Of each task wanted the embeddings of its solved examples, (M, D), as the pool's."""
    pass_rates_N: np.ndarray | None = None
    """Share of a model's answers that are right, 0 to 1, where the selector needs it."""

    def __len__(self) -> int:
        return len(self.example_ids)

    @property
    def last_losses_N(self) -> np.ndarray:
        """Return the losses at the last point, float32 of shape (N,)."""
        assert self.losses_NC is not None
        return self.losses_NC[:, -1]

    def each_ids(self) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """Yield (positions, ids) of all examples, a part at a time."""
        if isinstance(self.example_ids, StoredIds):
            yield from self.example_ids.each()
        else:
            yield np.arange(len(self)), self.example_ids

    def places_of(self, ids: pa.Array) -> np.ndarray:
        """Return the position of each of these ids, int64; -1 for one that is not there."""
        places = np.full(len(ids), -1, dtype=np.int64)
        for positions, part in self.each_ids() if len(ids) else ():
            found = pc.index_in(part.cast(ids.type), value_set=ids)
            places[found.drop_null().to_numpy()] = positions[found.is_valid().to_numpy(zero_copy_only=False)]
        return places

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
            self.tasks,
            rows(self.pass_rates_N),
        )
