"""Any selector inside each source: the option `per: source`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.numerics.allocation import water_filling
from s2l_ray.numerics.kmeans import resolve_num_clusters
from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors.pool import Choice, Pool, Selector


def select_per_source(
    selector: Selector, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator
) -> Choice:
    """Run the selector inside each source, at equal shares of the budget.

    S2L's authors' code selects so, source by source; here any method can. Sources are visited by ascending size
    (equal sizes by name) and get their water-filling quota: a source smaller than its share gives all it has. A
    source with quota 0 is skipped. Ranks follow the visits; cluster numbers are made distinct; each source draws
    from a random generator of its own. `num_clusters` above a source's size is lowered to it there. Not nested, even
    for a nested selector, since ranks go source by source.

    Raises
    ------
    InputError
        A source is missing, or `num_clusters` exceeds the whole pool.
    """
    if "num_clusters" in selector.parameters:
        resolve_num_clusters(config.num_clusters, len(pool))
    sources = sources_of(pool, "selection.per=source")
    sizes = np.array([len(members) for _, members in sources])
    quotas = water_filling(sizes, budget)
    generators = rng.spawn(len(sources))
    parts, source_facts, cluster_facts, first_cluster = [], [], [], 0
    for index in np.argsort(sizes, kind="stable"):
        (source, members), quota = sources[index], int(quotas[index])
        facts: dict[str, Any] = {"source": source, "size": len(members), "quota": quota}
        if quota:
            part = selector.select(pool.take(members), quota, _capped(config, len(members)), generators[index])
            clusters = part.facts.get("clusters", [])
            parts.append(_Part(members[part.positions_B], _shifted(part.clusters_B, first_cluster), part.scores_B))
            cluster_facts += [{**c, "source": source, "cluster": c["cluster"] + first_cluster} for c in clusters]
            facts |= {name: value for name, value in part.facts.items() if name != "clusters"}
            first_cluster += _num_clusters(part)
        source_facts.append(facts)
    found = {"sources": source_facts, **({"clusters": cluster_facts} if cluster_facts else {})}
    return Choice(
        np.concatenate([part.positions_B for part in parts]),
        _joined([part.clusters_B for part in parts]),
        _joined([part.scores_B for part in parts]),
        found,
    )


def sources_of(pool: Pool, asked_by: str) -> list[tuple[str, np.ndarray]]:
    """Return (source, ascending positions) of each source, by name.

    Raises
    ------
    InputError
        The pool has no sources or an example has none; the message begins with `asked_by`.
    """
    if pool.sources is None or pool.sources.null_count:
        raise InputError(f"{asked_by} needs a column source without missing values")
    codes = pc.dictionary_encode(pool.sources)
    names, labels_N = codes.dictionary.to_pylist(), codes.indices.to_numpy()
    return [(name, np.flatnonzero(labels_N == code)) for code, name in sorted(enumerate(names), key=lambda p: p[1])]


@dataclass(frozen=True)
class _Part:
    """What one source gave, in positions and clusters of the whole pool."""

    positions_B: np.ndarray
    clusters_B: np.ndarray | None
    scores_B: np.ndarray | None


def _capped(config: SelectionConfig, num_rows: int) -> SelectionConfig:
    if config.num_clusters == "auto" or config.num_clusters <= num_rows:
        return config
    return config.model_copy(update={"num_clusters": num_rows})


def _shifted(clusters_B: np.ndarray | None, first: int) -> np.ndarray | None:
    return None if clusters_B is None else clusters_B + first


def _num_clusters(part: Choice) -> int:
    """Return one more than the highest cluster number that a part uses or reports."""
    used = [] if part.clusters_B is None else [int(part.clusters_B.max())]
    return max([*used, *(c["cluster"] for c in part.facts.get("clusters", []))], default=-1) + 1


def _joined(columns: list[np.ndarray | None]) -> np.ndarray | None:
    present = [column for column in columns if column is not None]
    return np.concatenate(present) if len(present) == len(columns) else None
