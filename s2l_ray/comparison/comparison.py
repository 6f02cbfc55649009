"""How selections of one pool differ: what they share, against chance, and what each is made of."""

import itertools
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from s2l_ray.comparison.chosen import Chosen, ids_of, numbers_of, read_selection
from s2l_ray.comparison.lots import shared_by_lot
from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.selectors.stability import seed_stability
from s2l_ray.tables.losses_file import read_parquet, read_trajectories_file
from s2l_ray.tables.schemas import losses_matrix, metadata_of

_NUM_QUANTILES = 5
_NEAR = 1e-6
_FEWEST_RANKED = 3  # with 2 common examples every rank correlation is 1 or -1


def compare_selections(paths: Sequence[str], *pool_files: Path) -> dict[str, Any]:
    """Return one JSON-able object: `selections`, `pairs`, and `cluster_stability` where the pool has losses.

    Parameters
    ----------
    paths
        `selection.parquet` files, or folders (or storage URIs) that hold one.
    pool_files
        Parquet with example_id and, each optional, source, num_supervised_tokens and losses; rows whose losses are
        not all finite count for sources and lengths alone. Further ones are the same pool with the losses of other
        proxies, for what their selections share by lot.

    Raises
    ------
    InputError
        A file is missing or no selection, or the selections are not of one pool.
    """
    if not 2 <= len(paths) <= len(string.ascii_uppercase):
        raise InputError(f"give 2 to {len(string.ascii_uppercase)} selections to compare, got {len(paths)}")
    chosen = [read_selection(path, name) for path, name in zip(paths, string.ascii_uppercase, strict=False)]
    pools = [_read_pool(file, chosen) for file in pool_files]
    pool = pools[0] if pools else None
    sizes = [_num_candidates(one, pool) for one in chosen]
    if pool is None:
        _check_one_pool(chosen, sizes)
    tables = [read_trajectories_file(file, what="--pool", drop_non_finite=True)[0] if "losses" in own.column_names
              else None for file, own in zip(pool_files, pools, strict=True)]
    losses = tables[0] if tables else None
    pairs = list(itertools.combinations(range(len(chosen)), 2))
    by_lot = shared_by_lot([table for table in tables if table is not None], chosen, pairs)
    found: dict[str, Any] = {
        "selections": [_describe(one, size, pool, losses) for one, size in zip(chosen, sizes, strict=True)],
        "pairs": [{**compare_pair(chosen[a], chosen[b], max(sizes[a], sizes[b])), "num_common_by_lot": shared}
                  for (a, b), shared in zip(pairs, by_lot, strict=True)],
    }
    if losses is not None:
        found["cluster_stability"] = _stability(losses, chosen)
    return found


def _read_pool(file: Path, chosen: list[Chosen]) -> pa.Table:
    """Return the pool's table after proving that every selection is of it."""
    pool = read_parquet(file, "--pool")
    ids = ids_of(pool, f"--pool {file}")
    for one in chosen:
        missing = one.ids.filter(pc.invert(pc.is_in(one.ids, value_set=ids)))
        if len(missing):
            raise InputError(f"{len(missing):,} examples of {one.path} are not in the pool {file}, for example "
                             f"{', '.join(missing[:3].to_pylist())}: is it another pool?")
        if one.origin.get("num_candidates", 0) > len(ids):
            raise InputError(f"{one.path} was chosen from {one.origin['num_candidates']:,} candidates, the pool {file} "
                             f"has {len(ids):,}")
    if "num_supervised_tokens" in pool.column_names and \
            np.isnan(numbers_of(pool, "num_supervised_tokens", f"--pool {file}")).any():
        raise InputError(f"--pool {file}: column num_supervised_tokens has missing values")
    return pool.set_column(pool.column_names.index("example_id"), "example_id", ids)


def _num_candidates(one: Chosen, pool: pa.Table | None) -> int:
    known = one.origin.get("num_candidates")
    if known is None and pool is None:
        raise InputError(f"{one.path} does not say how many candidates it was chosen from: give the pool with --pool")
    size = int(pool.num_rows if known is None else known)  # type: ignore[union-attr]
    if size < len(one.ids):
        raise InputError(f"{one.path} has {len(one.ids):,} rows, but says it was chosen from {size:,} candidates")
    return size


def _check_one_pool(chosen: list[Chosen], sizes: list[int]) -> None:
    """Refuse selections from different pools: without the pool itself, their sizes and common examples tell."""
    parents = {one.origin.get("parents", {}).get("examples") for one in chosen}
    if len(set(sizes)) > 1 and (len(parents) > 1 or None in parents):
        listed = ", ".join(f"{one.path} from {size:,}" for one, size in zip(chosen, sizes, strict=True))
        raise InputError(f"the selections are from different pools ({listed} candidates); if one pool holds them all, "
                         "give it with --pool")


def compare_pair(a: Chosen, b: Chosen, num_candidates: int) -> dict[str, Any]:
    """Return what two selections share, and what two random ones of these sizes would.

    Two independent uniform draws of |A| and |B| among N share |A||B| / N examples on average. The Jaccard index by
    chance is that of this average: it is not itself an average, but close to it for all but the smallest budgets.
    """
    places = pc.index_in(a.ids, value_set=b.ids)
    is_common = places.is_valid().to_numpy(zero_copy_only=False)
    common, expected = int(is_common.sum()), len(a.ids) * len(b.ids) / num_candidates
    both = len(a.ids) + len(b.ids)
    scores = np.stack([a.scores_B[is_common], b.scores_B[places.drop_null().to_numpy()]])
    return {
        "a": a.name, "b": b.name, "num_candidates": num_candidates,
        "num_common": common, "num_common_by_chance": expected,
        "jaccard": common / (both - common), "jaccard_by_chance": expected / (both - expected),
        "share_of_a_in_b": common / len(a.ids), "share_of_b_in_a": common / len(b.ids),
        **_rank_correlation(scores[:, np.isfinite(scores).all(axis=0)]),
    }


def _rank_correlation(scores_2N: np.ndarray) -> dict[str, Any]:
    """Return Spearman's correlation over the common examples alone (a narrower range than the pool's)."""
    num_scored, note = scores_2N.shape[1], None
    if num_scored < _FEWEST_RANKED:
        note = f"{num_scored} common examples have scores in both, {_FEWEST_RANKED} are needed"
    elif (scores_2N == scores_2N[:, :1]).all(axis=1).any():
        note = "all scores of one selection are equal"
    value = None if note else float(spearmanr(*scores_2N).statistic)
    return {"spearman": value, "num_common_scored": num_scored, "spearman_note": note}


def _describe(
    one: Chosen, num_candidates: int, pool: pa.Table | None, losses: pa.Table | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": one.name, "path": one.path, "budget": len(one.ids), "num_candidates": num_candidates,
        **{key: one.origin.get(key) for key in ("selector", "seed", "budget_asked")},
        "sources": None, "lengths": None, "near_duplicate_share": None,
    }
    if pool is None:
        return facts
    rows = pc.index_in(one.ids, value_set=pool["example_id"].combine_chunks()).to_numpy()
    if "source" in pool.column_names:
        facts["sources"] = _by_source(pool["source"].cast(pa.string()).fill_null("(none)"), rows)
    if "num_supervised_tokens" in pool.column_names:
        facts["lengths"] = by_length(numbers_of(pool, "num_supervised_tokens", "--pool"), rows)
    if losses is not None:
        ours = losses.filter(pc.is_in(losses["example_id"], value_set=one.ids))
        facts["near_duplicate_share"] = near_duplicate_share(losses_matrix(ours)) if ours.num_rows else None
    return facts


def _by_source(sources: pa.ChunkedArray, rows: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the share of each source in the pool and in the selection, the pool's largest first."""
    counts = {e["values"]: e["counts"] for e in pc.value_counts(sources.take(pa.array(rows))).to_pylist()}
    whole = sorted(pc.value_counts(sources).to_pylist(), key=lambda entry: -entry["counts"])
    return {e["values"]: {"pool": e["counts"] / len(sources), "selected": counts.get(e["values"], 0) / len(rows)}
            for e in whole}


def by_length(lengths_N: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
    """Return each fifth of the pool by length: its bounds, its share of the pool (ties move it from 1/5), and ours."""
    edges = np.quantile(lengths_N, np.arange(1, _NUM_QUANTILES) / _NUM_QUANTILES)
    fifths_N = np.searchsorted(edges, lengths_N, side="left")  # a length on an edge belongs below it
    pool, ours = (np.bincount(fifths, minlength=_NUM_QUANTILES) for fifths in (fifths_N, fifths_N[rows]))
    found = []
    for fifth in range(_NUM_QUANTILES):
        members = lengths_N[fifths_N == fifth]
        bounds = {"from": float(members.min()), "to": float(members.max())} if len(members) else {}
        found.append({"quantile": fifth + 1, "from": None, "to": None, **bounds,
                      "pool": float(pool[fifth] / len(lengths_N)), "selected": float(ours[fifth] / len(rows))})
    return found


def near_duplicate_share(losses_BC: np.ndarray) -> float:
    """Return the share of rows that lie within 1e-6 (Euclidean, nats) of another one."""
    # Equal rows are counted, not searched for: a tree looks through all of them for each of them.
    rows_UC, counts_U = np.unique(losses_BC.astype(np.float64), axis=0, return_counts=True)
    distances_U2, _ = cKDTree(rows_UC).query(rows_UC, k=2, distance_upper_bound=_NEAR)  # itself, the nearest other
    is_near_U = np.isfinite(distances_U2[:, 1]) | (counts_U > 1)
    return float(counts_U[is_near_U].sum() / len(losses_BC))


def _clusters_trajectories(one: Chosen) -> bool:
    selector = SELECTORS.get(one.origin.get("selector"))
    return selector is not None and "normalise" in selector.parameters


def _stability(losses: pa.Table, chosen: list[Chosen]) -> list[dict[str, Any]]:
    """Return, for each K of the S2L selections (auto without any), how alike k-means is from seed to seed.

    Clustered are the raw losses, without the untouched model's where the metadata tells.
    """
    losses_NC = losses_matrix(losses)
    points = metadata_of(losses.schema).get("points")
    if points and len(points) == losses_NC.shape[1] > 1:
        losses_NC = losses_NC[:, np.array([point["fraction"] for point in points]) > 0]
    asked: set[Any] = {one.origin.get("num_clusters") for one in chosen if _clusters_trajectories(one)} - {None}
    return seed_stability(losses_NC, asked or {"auto"})
