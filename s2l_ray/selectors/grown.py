"""A selection that grows by rows which were not there for it: what it chose stays, and new rows have a fair chance."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.selectors.pool import Pool


@dataclass(frozen=True)
class Earlier:
    """A finished selection: the ids that it chose, by rank, and all that it chose from."""

    chosen: pa.Array
    candidates: pa.Array


@dataclass(frozen=True)
class Grown:
    """The B examples of a grown selection, those chosen earlier first."""

    positions_B: np.ndarray
    """In the pool, by rank."""
    places_B: np.ndarray
    """Where each is in the selection made anew; -1 for those that are kept and not in it."""
    num_kept_anew: int
    """Of those kept, how many the selection made anew holds too."""
    num_new: int
    """Of those added, how many were no candidates before."""
    num_new_anew: int
    """New ones in the selection made anew."""

    @property
    def remark(self) -> str:
        """Return how near it is to starting over."""
        kept = int((self.places_B < 0).sum()) + self.num_kept_anew
        shared = len(self.positions_B) - (kept - self.num_kept_anew)
        return (f"{kept:,} were chosen before, {self.num_kept_anew:,} of which starting over would choose again; "
                f"{self.num_new:,} of the {self.num_new_anew:,} new rows that it would choose are added. {shared:,} of "
                f"{len(self.positions_B):,} are as if it had started over")


def grown(
    pool: Pool, kept: np.ndarray, anew_B: np.ndarray, candidates: pa.Array, num_required: int = 0, *,
    is_nested: bool = True,
) -> Grown:
    """Return what was chosen earlier, filled up to the same budget with what is chosen anew from all rows.

    New rows come first among these, by rank, then old ones: an old row had its chance before, so to draw again among
    all that are left would leave new rows a fraction of theirs. Each new row that a selection made anew holds is added,
    as long as the budget allows.

    Parameters
    ----------
    kept : ndarray of positions
        What was chosen earlier, by rank, of those `candidates`; not more than the budget.
    anew_B : ndarray of positions
        The whole budget, chosen from all rows, by rank.
    num_required
        How many of these, the first ones, are in any case.
    is_nested
        Whether a lower rank is a better example. Where ranks go cluster by cluster, some are taken from all along them.
    """
    assert len(kept) <= len(anew_B), (len(kept), len(anew_B))
    is_old_B = pc.is_in(pool.example_ids.take(pa.array(anew_B)).cast(pa.string()),
                        value_set=candidates.cast(pa.string())).to_numpy(zero_copy_only=False)
    is_kept_B = np.isin(anew_B, kept)
    is_asked_B = (np.arange(len(anew_B)) < num_required) & ~is_kept_B
    fresh = np.empty(0, dtype=np.int64)
    for group in (is_asked_B, ~is_old_B & ~is_asked_B, is_old_B & ~is_kept_B & ~is_asked_B):
        found, room = np.flatnonzero(group), len(anew_B) - len(kept) - len(fresh)
        if len(found) > room:
            found = found[:room] if is_nested else found[np.arange(room) * len(found) // max(room, 1)]
        fresh = np.concatenate([fresh, found])
    place_of = dict(zip(anew_B.tolist(), range(len(anew_B)), strict=True))
    places_kept = np.array([place_of.get(position, -1) for position in kept.tolist()], dtype=np.int64)
    return Grown(np.concatenate([kept, anew_B[fresh]]), np.concatenate([places_kept, fresh]), int(is_kept_B.sum()),
                 int((~is_old_B[fresh]).sum()), int((~is_old_B).sum()))


def kept_positions(pool: Pool, earlier: Earlier, forbidden: np.ndarray, budget: int) -> np.ndarray:
    """Return where the examples chosen earlier are in the pool, by rank.

    Raises
    ------
    InputError
        One is not there any more, or is forbidden; or they are more than the budget.
    """
    kept = pool.places_of(earlier.chosen.cast(pa.string()))
    missing = earlier.chosen.filter(pa.array(kept < 0))
    if len(missing):
        raise InputError(f"selection.extends: {len(missing):,} of the {len(kept):,} chosen before are no examples of "
                         f"the pool any more, for example {missing[:3].to_pylist()}: add rows, and change none, or "
                         "start over")
    if len(kept) > budget:
        raise InputError(f"selection.extends: {len(kept):,} were chosen before, the budget is {budget:,}: raise "
                         "selection.budget")
    both = np.intersect1d(kept, forbidden)
    if len(both):
        named = pool.example_ids.take(pa.array(both[:3])).to_pylist()
        raise InputError(f"selection.extends keeps {len(both):,} examples that selection.forbidden names, for example "
                         f"{named}: start over without them, or allow them")
    return kept
