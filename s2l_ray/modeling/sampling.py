"""The order in which training sees its examples."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from s2l_ray.modeling.batching import blank_of


class StepSampler(Sampler[int]):
    """Shuffles with the seed and the epoch, or keeps the order, then orders the examples of each step by length.

    Micro-batches are cut from a step in this order, so neighbours of like length share one and little is padded. A
    step's gradient is the mean over all its tokens, so which micro-batch an example is in changes nothing but
    rounding, and which examples make a step stays as random as without (grouping whole steps by length would not).

    An epoch's last step may be smaller than what all workers take at once. Accelerate then fills it with examples of
    the epoch's start, which would be learned twice; so it is filled here, by blanks (see `ExampleTable`).
    """

    def __init__(self, lengths_N: np.ndarray, global_batch_size: int, seed: int, at_once: int = 1, *,
                 shuffles: bool = True) -> None:
        """Sample for workers that take `at_once` examples together, which divides the global batch."""
        assert global_batch_size % at_once == 0, (global_batch_size, at_once)
        self._lengths_N, self._size, self._seed = lengths_N, global_batch_size, seed
        self._shuffles = shuffles
        self._num_blanks = -len(lengths_N) % at_once
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Shuffle again: the same epoch always gives the same order, after a restart too."""
        self._epoch = epoch

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps that see every example once; the last may be smaller."""
        return -(-len(self) // self._size)

    def __len__(self) -> int:
        return len(self._lengths_N) + self._num_blanks

    def __iter__(self) -> Iterator[int]:
        order = np.arange(len(self._lengths_N))
        if self._shuffles:
            order = np.random.default_rng([self._seed, self._epoch]).permutation(order)
        for start in range(0, len(order), self._size):
            step = order[start : start + self._size]
            ordered = step[np.argsort(-self._lengths_N[step], kind="stable")].tolist()
            yield from ordered
        yield from [blank_of(ordered[-1])] * self._num_blanks  # of the shortest, at the least cost
