"""The order in which a target sees its examples, where it is not drawn anew each epoch: `target.order`.

Easy and hard are by the mean loss of a row's trajectory: the sum over training of what the proxy had still to learn.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.numerics.kmeans import cluster_rows, resolve_num_clusters
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.recipe.training import Order
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.schemas import losses_matrix

BY_TRAJECTORY: frozenset[Order] = frozenset({"easy_first", "hard_first", "cluster_round_robin"})


def training_order(ids: pa.Array, order: Order, trajectories: Artifact | None, config: SelectionConfig, seed: int
                   ) -> pa.Array:
    """Return the ids in the order in which every epoch has them.

    Parameters
    ----------
    ids
        By rank.
    trajectories
        Where the order is `BY_TRAJECTORY`.
    """
    if order == "as_selected":
        return ids
    assert trajectories is not None
    losses_BC = _losses(ids, trajectories)
    if order == "cluster_round_robin":
        places = _in_turn(_clusters(losses_BC, config, seed))
    else:
        means_B = losses_BC.mean(axis=1, dtype=np.float64)
        places = np.argsort(means_B if order == "easy_first" else -means_B, kind="stable")  # equal ones by rank
    return ids.take(pa.array(places))


def _losses(ids: pa.Array, trajectories: Artifact) -> np.ndarray:
    """Return the trajectories of these examples, (B, C)."""
    parts = [trajectories.read_table(f"shards/{name}", ["example_id", "losses"]) for name in
             trajectories.list_names("shards")]
    table = pa.concat_tables(part.filter(pc.is_in(part["example_id"], value_set=ids)) for part in parts)
    return losses_matrix(table.take(pc.index_in(ids, value_set=table["example_id"].combine_chunks())))


def _clusters(losses_BC: np.ndarray, config: SelectionConfig, seed: int) -> np.ndarray:
    asked = config.num_clusters
    num_clusters = resolve_num_clusters(asked if asked == "auto" else min(asked, len(losses_BC)), len(losses_BC))
    return cluster_rows(losses_BC, num_clusters, np.random.default_rng(seed), fit_rows=config.kmeans_fit_rows,
                        iterations=config.kmeans_iterations).labels_N


def _in_turn(labels_B: np.ndarray) -> np.ndarray:
    """Return positions such that every cluster that has rows left gives one, by rank, before any gives its next."""
    order = np.argsort(labels_B, kind="stable")
    sizes = np.bincount(labels_B)
    turns = np.empty(len(labels_B), dtype=np.int64)
    turns[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.lexsort((labels_B, turns))
