"""How early a proxy could have stopped, and how few points are enough: agreement with what all points choose.

Suffixes: N examples, C points, K clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.numerics.kmeans import cluster_rows, resolve_num_clusters
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.chances import Draw, draw
from s2l_ray.selectors.methods.s2l import clustered_points, prepare_trajectories
from s2l_ray.selectors.run import pool_of
from s2l_ray.tables.needs import Need
from s2l_ray.tables.schemas import losses_matrix, metadata_of, with_metadata

_STRIDES = (2, 3, 4)


@dataclass(frozen=True)
class _Chosen:
    """What some of the points choose, and the clusters that they make."""

    drawn: Draw
    labels_N: np.ndarray

    @cached_property
    def ids(self) -> frozenset[str]:
        """Return the chosen ids."""
        return frozenset(self.drawn.ids.to_pylist())


def early_agreement(table: pa.Table, config: SelectionConfig, seed: int) -> dict[str, Any]:
    """Return how far selections by fewer points agree with that by all, one JSON-able row for each choice of points.

    `overlap` is the share of the chosen examples that all points choose too. Two draws from the very same clusters
    share only some by lot, so `expected` says which share independent draws would have in common, from each example's
    probability of being drawn, against `expected_at_most` for clusters that are the same; both are null where the
    selector's lots are not equal within groups. `rand` is the adjusted Rand index of the clusters. `seeds` is the same
    for all points under another seed: what agreement can be at best.

    Raises
    ------
    InputError
        The selector uses no trajectories, or there are fewer than three points.
    """
    if Need.TRAJECTORIES not in SELECTORS.find(config.selector).needs:
        raise InputError(f"{config.selector} uses no trajectories, so no point of them could be spared: give one "
                         "that does")
    num_points = losses_matrix(table).shape[1]
    points = metadata_of(table.schema).get("points") or [
        {"step": None, "fraction": (place + 1) / num_points} for place in range(num_points)]
    if num_points < 3:
        raise InputError(f"{num_points} points: three are needed for some to be spared")
    whole = _choose(table, range(num_points), points, config, seed)
    rows = []
    for kept in _choices(num_points):
        found = _choose(table, kept, points, config, seed)
        rows.append({"points": len(kept), "every": kept[1] - kept[0], "training": points[kept[-1]]["fraction"],
                     "scoring": len(kept) / num_points, **_agreement(found, whole)})
    other = _choose(table, range(num_points), points, config, seed + 1)
    budget = len(whole.ids)
    return {
        "selector": config.selector, "budget": budget, "num_candidates": table.num_rows,
        "overlap_by_chance": budget / table.num_rows,
        "expected_at_most": _by_lot(whole, whole),
        "seeds": _agreement(other, whole), "rows": rows,
    }


def _choices(num_points: int) -> list[range]:
    """Return the places of points that are kept: the first ones, then all of the training at larger steps."""
    first = [range(count) for count in range(2, num_points + 1)]
    thinned = [range((num_points - 1) % stride, num_points, stride) for stride in _STRIDES]
    return [*first, *(kept for kept in thinned if len(kept) >= 2)]


def _choose(
    table: pa.Table, kept: range, points: Sequence[dict[str, Any]], config: SelectionConfig, seed: int
) -> _Chosen:
    losses_NC = losses_matrix(table)[:, list(kept)]
    own = [points[place] for place in kept]
    flat = pa.array(np.ascontiguousarray(losses_NC).reshape(-1))
    place = table.column_names.index("losses")
    part = table.set_column(place, "losses", pa.FixedSizeListArray.from_arrays(flat, len(kept)))
    selector = SELECTORS.find(config.selector)
    pool = pool_of(with_metadata(part, {"points": own}), selector.needs)
    drawn = draw(selector, pool, config, seed)
    points_C = clustered_points(np.array([point["fraction"] for point in own]), len(own), config.include_initial)
    labels_N = cluster_rows(
        losses_NC, resolve_num_clusters(config.num_clusters, len(losses_NC)), np.random.default_rng(seed),
        fit_rows=config.kmeans_fit_rows, iterations=config.kmeans_iterations,
        prepare=partial(prepare_trajectories, points_C=points_C, normalise=config.normalise)).labels_N
    return _Chosen(drawn, labels_N)


def _by_lot(one: _Chosen, whole: _Chosen) -> float | None:
    shared = one.drawn.shared_by_lot(whole.drawn)
    return None if shared is None else shared / len(whole.ids)


def _agreement(one: _Chosen, whole: _Chosen) -> dict[str, float | None]:
    from sklearn.metrics import adjusted_rand_score  # heavy

    return {
        "overlap": len(one.ids & whole.ids) / len(whole.ids),
        "expected": _by_lot(one, whole),
        "rand": float(adjusted_rand_score(whole.labels_N, one.labels_N)),
    }
