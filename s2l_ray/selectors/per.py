"""Any selector inside each source: the options `per: source` and `shares`."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.numerics.allocation import largest_remainder, water_filling
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector


def select_per_source(
    selector: Selector, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator
) -> Choice:
    """Run the selector inside each source, at equal shares of the budget, or those that `shares` gives it.

    With `shares` alone all sources without one are a group together, with `per` each is its own. S2L's authors' code
    selects so, source by source; here any method can. Sources are visited by ascending size (equal sizes by name) and
    get their water-filling quota: a source smaller than its share gives all it has. A source with quota 0 is skipped.
    Ranks follow the visits; cluster numbers are made distinct; each source draws from a random generator of its own.
    `num_clusters` above a source's size is lowered to it there. Not nested, even for a nested selector, since ranks
    go source by source.

    Raises
    ------
    InputError
        A source is missing, `num_clusters` exceeds the whole pool, or `shares` do not fit (see `quotas_of`).
    """
    selector.check(config, len(pool), pool.fractions_C)
    sources, quotas = quotas_of(pool, budget, config)
    sizes = np.array([len(members) for _, members in sources])
    generators = rng.spawn(len(sources))
    parts, source_facts = [], []
    for index in np.argsort(sizes, kind="stable"):
        (source, members), quota = sources[index], int(quotas[index])
        facts: dict[str, Any] = {"source": source, "size": len(members), "quota": quota}
        if quota:
            part = selector.select(pool.take(members), quota, _capped(config, len(members)), generators[index])
            clusters = [{**cluster, "source": source} for cluster in part.facts.get("clusters", [])]
            parts.append(replace(placed(part, members, len(pool)), facts={"clusters": clusters}))
            facts |= {name: value for name, value in part.facts.items() if name != "clusters"}
        source_facts.append(facts)
    whole = joined(parts)
    clusters = whole.facts["clusters"]
    return replace(whole, facts={"sources": source_facts, **({"clusters": clusters} if clusters else {})})


def quotas_of(pool: Pool, budget: int, config: SelectionConfig) -> tuple[list[tuple[str, np.ndarray]], np.ndarray]:
    """Return the groups that the selector runs in, each with its positions, and how many examples each gives.

    A source with a share gives that part of the budget, to the last example by largest remainders; the rest comes from
    all others: at equal shares with `per`, else from them as one group.

    Raises
    ------
    InputError
        `shares` names no source of the pool, or more of one than it has.
    """
    sources = sources_of(pool, "selection.shares" if config.shares else "selection.per=source")
    named = [(name, members) for name, members in sources if name in config.shares]
    others = [(name, members) for name, members in sources if name not in config.shares]
    unknown = sorted(config.shares.keys() - {name for name, _ in sources})
    if unknown:
        known = ", ".join(name for name, _ in sources[:20])
        raise InputError(f"selection.shares names {unknown}; the pool's sources: {known}")
    shares = [config.shares[name] for name, _ in named]
    rest = 1 - sum(shares) if sum(shares) < 1 - 1e-9 else 0.0
    *quotas, left = largest_remainder(np.array([*shares, rest]), budget).tolist()
    for (name, members), quota in zip(named, quotas, strict=True):
        if quota > len(members):
            raise InputError(f"selection.shares.{name}={config.shares[name]} of a budget of {budget} is {quota} "
                             f"examples, and the source has {len(members)}: lower its share, or the budget")
    num_others = sum(len(members) for _, members in others)
    if left > num_others:
        raise InputError(f"selection.shares={config.shares} leave {left} of a budget of {budget} to the other sources, "
                         f"which have {num_others} examples: raise the shares, or lower the budget")
    if config.shares and config.per is None and others:
        others = [("all others", np.sort(np.concatenate([members for _, members in others])))]
    filled = water_filling(np.array([len(members) for _, members in others], dtype=np.int64), left)
    return [*named, *others], np.array([*quotas, *filled], dtype=np.int64)


def placed(part: Choice, members: np.ndarray, num_examples: int) -> Choice:
    """Return a choice from some members of a pool as one from the pool; the others have no chance."""
    chances_N = None
    if part.chances_N is not None:
        chances_N = np.zeros(num_examples, dtype=np.float32)
        chances_N[members] = part.chances_N
    return replace(part, positions_B=members[part.positions_B], chances_N=chances_N)


def joined(parts: list[Choice]) -> Choice:
    """Return choices from different examples of one pool as one, in this order, with clusters numbered on."""
    clusters, cluster_facts, first = [], [], 0
    chances = [part.chances_N for part in parts if part.chances_N is not None]
    for part in parts:
        clusters.append(None if part.clusters_B is None else part.clusters_B + first)
        cluster_facts += [{**fact, "cluster": fact["cluster"] + first} for fact in part.facts["clusters"]]
        first += _num_clusters(part)
    return Choice(
        np.concatenate([part.positions_B for part in parts]),
        _column(clusters),
        _column([part.scores_B for part in parts]),
        {"clusters": cluster_facts},
        _column([part.quotas_B for part in parts]),
        _column([part.distances_B for part in parts]),
        np.sum(chances, axis=0) if len(chances) == len(parts) else None,
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


def _capped(config: SelectionConfig, num_rows: int) -> SelectionConfig:
    if config.num_clusters == "auto" or config.num_clusters <= num_rows:
        return config
    return config.model_copy(update={"num_clusters": num_rows})


def _num_clusters(part: Choice) -> int:
    """Return one more than the highest cluster number that a part uses or reports."""
    used = -1 if part.clusters_B is None else int(part.clusters_B.max(initial=-1))
    return max([used, *(fact["cluster"] for fact in part.facts["clusters"])]) + 1


def _column(columns: list[np.ndarray | None]) -> np.ndarray | None:
    present = [column for column in columns if column is not None]
    return np.concatenate(present) if len(present) == len(columns) else None
