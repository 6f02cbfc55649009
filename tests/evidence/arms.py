"""The arms: what each trains on, by the package's own selectors or drawn to look like what S2L chose."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray import select
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.methods.learning_percentage import epoch_1_point, learning_percentages
from s2l_ray.tables.schemas import with_metadata
from tests.evidence.setting import FULL, RANDOM, S2L

DECILES = 10


@dataclass(frozen=True)
class Pool:
    """A pool as selectors see it: N rows, C recorded points of a proxy's training."""

    table: pa.Table
    """example_id, source, num_supervised_tokens, num_tokens."""
    losses_NC: np.ndarray
    fractions_C: np.ndarray
    embeddings_ND: np.ndarray
    weighted_ND: np.ndarray
    """The position-weighted ones, of `representation`, and those of the tasks' solved examples."""
    wanted: pa.Table
    without_prompt_N: np.ndarray
    """The untouched proxy's losses of the responses alone."""
    num_clusters: int

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def sources(self) -> list[str]:
        """Return each row's source."""
        return list(self.table["source"].to_pylist())


Draw = Callable[[Pool, int, int], np.ndarray]
"""(pool, budget, seed) -> the positions of the chosen rows."""


def _chosen(selector: str, **settings: Any) -> Draw:
    """Return the arm of a selector of the package."""
    def draw(pool: Pool, budget: int, seed: int) -> np.ndarray:
        clusters = {"num_clusters": pool.num_clusters} if selector in _CLUSTERED else {}
        beside = {"embeddings": pool.embeddings_ND}
        if selector == "representation":
            beside = {"embeddings": pool.weighted_ND, "task_embeddings": pool.wanted}
        return select(table_of(pool), budget, selector=selector, seed=seed, settings=settings, **clusters,
                      **beside).indices
    return draw


_CLUSTERED = {"s2l", "s2l_seedless", "loss_bins", "learning_percentage", "ltd"}


def table_of(pool: Pool) -> pa.Table:
    """Return the pool as a table that all selectors read."""
    losses = pa.FixedSizeListArray.from_arrays(pa.array(pool.losses_NC.reshape(-1)), pool.losses_NC.shape[1])
    made = pool.table.append_column("losses", losses)
    for name, values_N in (("with_prompt", pool.losses_NC[:, 0]), ("without_prompt", pool.without_prompt_N)):
        made = made.append_column(f"loss_{name}", pa.array(values_N))
    points = [{"step": place, "fraction": float(one)} for place, one in enumerate(pool.fractions_C)]
    return with_metadata(made, {"points": points})


def _by_learning(sign: int) -> Draw:
    """Return the arm of the lowest (1) or highest (-1) learning percentages, without clusters."""
    def draw(pool: Pool, budget: int, seed: int) -> np.ndarray:
        epoch_1 = epoch_1_point(pool.fractions_C, SelectionConfig().epoch_1_fraction)
        percentages_N = learning_percentages(pool.losses_NC[:, [0, epoch_1, -1]])
        return np.argsort(sign * percentages_N, kind="stable")[:budget]
    return draw


def _like_s2l(label: Callable[[Pool], np.ndarray]) -> Draw:
    """Return an arm that draws as many of each label as S2L did, and by lot of it: what of S2L's effect is a quota."""
    def draw(pool: Pool, budget: int, seed: int) -> np.ndarray:
        labels_N = label(pool)
        counts = np.bincount(labels_N[ARMS[S2L](pool, budget, seed)], minlength=labels_N.max() + 1)
        rng = np.random.default_rng((seed, budget))
        return np.concatenate([rng.choice(np.flatnonzero(labels_N == one), count, replace=False)
                               for one, count in enumerate(counts) if count])
    return draw


def source_labels(pool: Pool) -> np.ndarray:
    """Return the number of each row's source, (N,)."""
    return np.unique(pool.sources, return_inverse=True)[1]


def deciles(values_N: np.ndarray) -> np.ndarray:
    """Return which tenth of the ranks each value is in, (N,); equal values by their order."""
    ranks_N = np.argsort(np.argsort(values_N, kind="stable"), kind="stable")
    return ranks_N * DECILES // len(values_N)


def length_labels(pool: Pool) -> np.ndarray:
    """Return the tenth of lengths, in supervised tokens, that each row is in."""
    return deciles(pool.table["num_supervised_tokens"].to_numpy())


def loss_labels(pool: Pool) -> np.ndarray:
    """Return the tenth of mean losses over the points that each row is in."""
    return deciles(pool.losses_NC[:, 1:].mean(axis=1))


ARMS: Mapping[str, Draw] = {
    FULL: lambda pool, budget, seed: np.arange(len(pool)),
    RANDOM: _chosen("random"),
    "length_matched_random": _chosen("length_matched_random"),
    "random_by_source": _chosen("random", per="source"),
    S2L: _chosen("s2l"),
    "s2l_as_in_code": _chosen("s2l", stratify_by="source", least_cluster_size=3),
    "s2l_zscore": _chosen("s2l", normalise="zscore"),
    "s2l_seedless": _chosen("s2l_seedless"),
    "loss_bins": _chosen("loss_bins"),
    "learning_percentage": _chosen("learning_percentage"),
    "lp_lowest": _by_learning(1),
    "lp_highest": _by_learning(-1),
    "ltd": _chosen("ltd"),
    "ltd_gsm8k": _chosen("ltd", task_sources=["gsm8k"]),
    "ifd": _chosen("ifd"),
    "density": _chosen("density"),
    "k_center": _chosen("k_center"),
    "facility_location": _chosen("facility_location"),
    "representation": _chosen("representation"),
    "high_loss": _chosen("high_loss"),
    "low_loss": _chosen("low_loss"),
    "middle_perplexity": _chosen("middle_perplexity"),
    "high_learnability": _chosen("high_learnability"),
    "quota_of_sources": _like_s2l(source_labels),
    "quota_of_lengths": _like_s2l(length_labels),
    "quota_of_losses": _like_s2l(loss_labels),
}
MAIN = (RANDOM, S2L, "s2l_as_in_code", "loss_bins", "random_by_source", "lp_lowest", "k_center")
"""Those that are compared at every budget."""
ONE_SOURCE = frozenset({"random_by_source", "s2l_as_in_code", "quota_of_sources", "ltd_gsm8k"})
"""Of these nothing new comes where all rows have one source."""
ONE_TASK = "ltd_gsm8k"
"""Chooses for one task of a pool that has it, at the smallest budget."""
