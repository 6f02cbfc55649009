"""The clusters: mean trajectory with spread, size in the pool and in the selection, sources, sample members."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s2l_ray.report.figures import Figure, Section, Table, colour, counted, cut, number, percent
from s2l_ray.report.members import Members
from s2l_ray.report.pool import PoolSample

MOST_SHOWN = 120
"""Clusters with cards and a line in the plot: the largest."""
_EACH = 2
_SPREAD = (10, 90)
_MOST_SOURCES = 8


def cluster_section(sample: PoolSample, members: Members, name: str, rng: np.random.Generator) -> Section:
    """Return the clusters' plots and table; `extra` holds what the page's script draws and the members to show."""
    if not members.clusters:
        return Section((f"{name} makes no clusters, so there are none to show.",))
    filled = [cluster for cluster in members.clusters if cluster["size"]]
    shown = filled[:MOST_SHOWN]
    each = {int(cluster["cluster"]): _describe(sample, members, cluster) for cluster in filled}
    sentences = [_what(sample, members, name, len(filled))]
    if len(filled) > len(shown):
        sentences.append(f"Lines, bars and members are of the {len(shown)} largest; the table has all.")
    cards = {number_: _pick(sample, members, number_, rng) for number_ in [int(c["cluster"]) for c in shown]}
    figures = [_sizes(shown, each, members)]
    extra: dict[str, Any] = {"shown": [each[int(c["cluster"])] for c in shown], "cards": cards}
    if members.has_trajectories and sample.fractions_C is not None:
        extra["fractions"] = [round(100 * float(fraction), 3) for fraction in sample.fractions_C]
        figures.insert(0, _trajectories(extra["shown"], extra["fractions"]))
    return Section(tuple(sentences), tuple(figures), (_table(filled, each),), extra)


def _what(sample: PoolSample, members: Members, name: str, num_filled: int) -> str:
    whole = "all rows" if sample.is_whole else f"a sample of {int(sample.drawn_M.sum()):,} of {sample.num_rows:,} rows"
    what = f"{name} made {counted(num_filled, 'cluster')} that have members."
    if members.has_trajectories:
        return (f"{what} The mean trajectory is of all members where the selection recorded it. The spread (10th to "
                f"90th percentile) and the pool's sources are of {whole}: chosen rows in the cluster that is recorded "
                "for them, the others in that of the nearest recorded centroid.")
    return (f"{what} They are not clusters of loss trajectories, so there are no mean trajectories; which cluster a "
            "row is in is recorded for the chosen ones alone.")


def _describe(sample: PoolSample, members: Members, cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return one cluster as the page shows it; curves over all C recorded points."""
    own_M = members.labels_M == cluster["cluster"]
    drawn_M, chosen_M = own_M & sample.drawn_M, own_M & sample.chosen_M
    found: dict[str, Any] = {
        "cluster": int(cluster["cluster"]), "source": cut(cluster.get("source") or "", 80),
        "size": int(cluster["size"]), "chosen": int(cluster["quota"]),
        "mean": cluster.get("mean_losses"), "low": None, "high": None,
        "sources": _sources(sample, drawn_M, chosen_M),
    }
    if sample.losses_MC is not None and members.has_trajectories and drawn_M.any():
        losses_DC = sample.losses_MC[drawn_M]
        found["low"], found["high"] = map(_rounded, np.percentile(losses_DC, _SPREAD, axis=0))
        found["mean"] = found["mean"] or _rounded(losses_DC.mean(axis=0))  # early versions did not record it
    return found


def _rounded(values_C: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values_C]


def _sources(sample: PoolSample, drawn_M: np.ndarray, chosen_M: np.ndarray) -> list[list[Any]]:
    """Return (source, share of the cluster's pool rows, share of its chosen ones), the largest first."""
    pool, chosen = Counter(sample.sources_M[drawn_M]), Counter(sample.sources_M[chosen_M])
    names = [name for name, _ in (pool or chosen).most_common(_MOST_SOURCES)]
    return [[cut(str(name), 80), round(pool[name] / max(pool.total(), 1), 4),
             round(chosen[name] / max(chosen.total(), 1), 4)] for name in names]


def _pick(sample: PoolSample, members: Members, cluster: int, rng: np.random.Generator) -> dict[str, list[int]]:
    """Return the sample's rows to show: nearest to the centroid, farthest, and drawn from the others.

    Of the drawn ones the first is a chosen row where there is one, so that a card shows what the
    cluster gave.
    """
    rows = np.flatnonzero(members.labels_M == cluster)
    known = rows[np.isfinite(members.distances_M[rows])]
    order = known[np.argsort(members.distances_M[known], kind="stable")]
    nearest, farthest = order[:_EACH], order[_EACH:][-_EACH:][::-1]
    others = np.setdiff1d(rows, np.concatenate([nearest, farthest]))
    drawn = rng.permutation(others)
    chosen = drawn[sample.chosen_M[drawn]][:1]
    drawn = np.concatenate([chosen, drawn[~sample.chosen_M[drawn]][: _EACH - len(chosen)]])
    return {"nearest": nearest.tolist(), "farthest": farthest.tolist(), "random": drawn.tolist()}


def _trajectories(shown: Sequence[Mapping[str, Any]], fractions: Sequence[float]) -> Figure:
    """Return the mean trajectories as thin lines; the page's script puts the one asked for over them."""
    means = [(cluster["cluster"], cluster["mean"]) for cluster in shown if cluster["mean"]]
    traces = [
        {"type": "scatter", "mode": "lines", "x": fractions, "y": mean, "line": {"color": colour(6, 0.45), "width": 1},
         "name": f"cluster {label}", "showlegend": False,
         "hovertemplate": f"cluster {label}: %{{y:.3f}}<extra></extra>"}
        for label, mean in means
    ]
    lows, highs = ([function(mean[point] for _, mean in means) for point in (0, -1)] for function in (min, max))
    description = (f"Mean loss of {counted(len(means), 'cluster')} over the proxy's training: from {number(lows[0])} "
                   f"to {number(highs[0])} nats at the first point, {number(lows[1])} to {number(highs[1])} at the "
                   "last.")
    return Figure(
        "trajectories", "Mean loss trajectory of each cluster", description, traces,
        {"xaxis": {"title": {"text": "proxy's training (%)"}},
         "yaxis": {"title": {"text": "loss (nats per token)"}, "rangemode": "tozero"}}, height=460,
    )


def _sizes(shown: Sequence[Mapping[str, Any]], each: Mapping[int, Mapping[str, Any]], members: Members) -> Figure:
    pool, chosen = (sum(c[key] for c in members.clusters) for key in ("size", "quota"))
    labels = [str(c["cluster"]) for c in shown]
    traces = [
        {"type": "bar", "name": title, "x": labels, "y": [100 * c[key] / max(total, 1) for c in shown],
         "marker": {"color": colour(order)}, "hovertemplate": "cluster %{x}: %{y:.2f} %"}
        for order, (title, key, total) in enumerate((("pool", "size", pool), ("selection", "quota", chosen)))
    ]
    largest = each[int(shown[0]["cluster"])]
    shares = [percent(largest[key] / max(total, 1)) for key, total in (("size", pool), ("chosen", chosen))]
    description = (f"Share of each cluster in the pool and in the selection, the largest first. The largest holds "
                   f"{shares[0]} of the pool and {shares[1]} of the selection.")
    return Figure(
        "cluster-sizes", "Clusters in the pool and in the selection", description, traces,
        {"barmode": "group", "xaxis": {"title": {"text": "cluster"}, "type": "category"},
         "yaxis": {"title": {"text": "share (%)"}}}, height=340,
    )


def _table(filled: Sequence[Mapping[str, Any]], each: Mapping[int, Mapping[str, Any]]) -> Table:
    pool, chosen = (max(sum(c[key] for c in filled), 1) for key in ("size", "quota"))
    rows = []
    for one in (each[int(cluster["cluster"])] for cluster in filled):
        mean, low, high = one["mean"], one["low"], one["high"]
        sources = ", ".join(f"{plain} {percent(share)}" for plain, share, _ in one["sources"][:3])
        rows.append((
            f"{one['cluster']}{' of ' + one['source'] if one['source'] else ''}", f"{one['size']:,}",
            percent(one["size"] / pool), f"{one['chosen']:,}", percent(one["chosen"] / chosen),
            number(mean[0]) if mean else "-", number(mean[-1]) if mean else "-",
            f"{number(low[-1])} to {number(high[-1])}" if low and high else "-", sources or "-",
        ))
    return Table(
        "Every cluster, the largest first",
        ("cluster", "in the pool", "share", "selected", "share", "first mean loss", "last mean loss",
         "last loss, 10 to 90 %", "main sources in the pool"), tuple(rows), frozenset({0, 8}),
    )


def cards_of(
    section: Section, sample: PoolSample, members: Members, texts: Mapping[int, tuple[str, str]]
) -> list[dict[str, Any]]:
    """Return the shown clusters with their members' texts, for the page's script."""
    def card(kind: str, row: int) -> dict[str, Any]:
        distance = members.distances_M[row]
        losses = None if sample.losses_MC is None else sample.losses_MC[row]
        return {
            "kind": kind, "id": cut(sample.ids[row].as_py(), 120), "source": cut(str(sample.sources_M[row]), 80),
            "chosen": bool(sample.chosen_M[row]), "distance": None if np.isnan(distance) else round(float(distance), 4),
            "tokens": int(sample.num_tokens_M[row]), "prompt": texts[row][0], "response": texts[row][1],
            "losses": None if losses is None else [round(float(losses[0]), 3), round(float(losses[-1]), 3)],
        }

    picked = section.extra["cards"]
    return [{**one, "cards": [card(kind, row) for kind, rows in picked[one["cluster"]].items() for row in rows]}
            for one in section.extra["shown"]]


def rows_of_cards(section: Section) -> list[int]:
    """Return the sample's rows whose texts the cards need."""
    return [row for kinds in section.extra.get("cards", {}).values() for rows in kinds.values() for row in rows]


