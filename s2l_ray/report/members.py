"""Which cluster each row of the sample is in: as recorded for the chosen ones, by the nearest centroid for the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.numerics.kmeans import nearest_centroids
from s2l_ray.report.pool import PoolSample
from s2l_ray.selectors.methods.s2l import clustered_points, prepare_trajectories

_NONE = -1


@dataclass(frozen=True)
class Members:
    """The clusters of a selection and the sample's rows in them."""

    clusters: tuple[Mapping[str, Any], ...]
    """The selection's own findings (cluster, size, quota and, of S2L, centroid and mean_losses), the largest first."""
    labels_M: np.ndarray
    """Cluster of each row of the sample; -1 where it is not known."""
    distances_M: np.ndarray
    """Distance to the centroid; NaN where it is not known."""

    @property
    def has_trajectories(self) -> bool:
        """Tell whether the clusters are of loss trajectories."""
        return any(cluster.get("centroid") for cluster in self.clusters)

    def by_number(self) -> dict[int, Mapping[str, Any]]:
        """Return the clusters by their numbers."""
        return {int(cluster["cluster"]): cluster for cluster in self.clusters}


def read_members(sample: PoolSample, findings: Mapping[str, Any], selection: Mapping[str, Any]) -> Members:
    """Return each row's cluster.

    The selection table holds the cluster and distance of the chosen rows alone: keeping them for every row would
    cost as much as the table of a pool of millions. The others' are worked out again from the recorded centroids,
    whose four decimals may put a row that lies between two clusters into the other one.

    Parameters
    ----------
    findings
        What the selector found: findings.json.
    selection
        The selection's parameters, of its manifest.
    """
    clusters = sorted(findings.get("clusters", []), key=lambda c: (-c["size"], c["cluster"]))
    labels_M, distances_M = nearest_clusters(
        clusters, selection, sample.losses_MC, sample.fractions_C, sample.sources_M)
    with_recorded(sample.selection, sample.places_M, labels_M, distances_M)
    return Members(tuple(clusters), labels_M, distances_M)


def nearest_clusters(
    clusters: Sequence[Mapping[str, Any]], selection: Mapping[str, Any], losses_MC: np.ndarray | None,
    fractions_C: np.ndarray | None, sources_M: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's cluster by the recorded centroids, and its distance; -1 and NaN where there are none.

    Parameters
    ----------
    clusters
        The selection's findings.
    selection
        Its parameters, of its manifest.
    """
    labels_M = np.full(len(sources_M), _NONE, dtype=np.int64)
    distances_M = np.full(len(sources_M), np.nan)
    if losses_MC is None or not any(cluster.get("centroid") for cluster in clusters):
        return labels_M, distances_M
    rows_MC = prepare_trajectories(
        losses_MC, clustered_points(fractions_C, losses_MC.shape[1], bool(selection["include_initial"])),
        str(selection["normalise"]),
    )
    for source in dict.fromkeys(cluster.get("source") for cluster in clusters):
        own = [cluster for cluster in clusters if cluster.get("source") == source]
        rows = np.arange(len(sources_M)) if source is None else np.flatnonzero(sources_M == source)
        _assign(rows, rows_MC, own, labels_M, distances_M)
    return labels_M, distances_M


def _assign(
    rows: np.ndarray, rows_MC: np.ndarray, clusters: Sequence[Mapping[str, Any]], labels_M: np.ndarray,
    distances_M: np.ndarray,
) -> None:
    """Put these rows into the nearest of these clusters that have members; in place."""
    filled = [cluster for cluster in clusters if cluster["size"]]
    if not len(rows) or not filled:
        return
    centroids_KC = np.array([cluster["centroid"] for cluster in filled], dtype=np.float32)
    nearest, distances_M[rows] = nearest_centroids(rows_MC[rows].astype(np.float32), centroids_KC)
    labels_M[rows] = np.array([cluster["cluster"] for cluster in filled])[nearest]


def with_recorded(
    selection: pa.Table, places_M: np.ndarray, labels_M: np.ndarray, distances_M: np.ndarray
) -> None:
    """Put in what a selection table says of the rows that it holds, at these places (-1: not chosen); in place."""
    rows = np.flatnonzero(places_M >= 0)
    for name, values_M in (("cluster", labels_M), ("distance", distances_M)):
        if name in selection.column_names and selection[name].null_count < selection.num_rows:
            column = selection[name].take(places_M[rows])
            values_M[rows] = pc.fill_null(column, _NONE if name == "cluster" else np.nan).to_numpy()
