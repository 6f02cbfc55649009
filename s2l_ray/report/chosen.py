"""What was chosen, beside the pool and a random choice: sources, lengths, losses."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from s2l_ray.report.figures import Figure, Section, Table, colour, cut, percent, plot_text
from s2l_ray.report.pool import PoolSample

_MOST_SOURCES = 20
_NUM_BINS = 30
_WITHIN = (0.0, 99.5)  # percentiles that the histograms span: a few very long rows would squeeze all others
_QUANTILES = (10, 50, 90)

Shares = Mapping[str, Mapping[str, int]]
"""Source -> rows in `pool` and `selected`, as the select manifest has them: of all rows, not of a sample."""


def chosen_section(sample: PoolSample, name: str, chosen: Shares, random: Shares | None) -> Section:
    """Return the plots of sources, lengths and losses with their tables.

    Parameters
    ----------
    chosen, random
        The sources of the shown selection and of the random one beside it.
    """
    groups = {"pool": sample.drawn_M, name: sample.chosen_M}
    if random is not None:
        groups["random"] = sample.random_M & sample.drawn_M
    chosen = dict(sorted(chosen.items(), key=lambda item: -item[1]["pool"]))
    sentences = []
    if not sample.is_whole:
        sentences.append(f"Lengths and losses of the pool are of a seeded sample of {int(sample.drawn_M.sum()):,} of "
                         f"{sample.num_rows:,} rows; sources are of all.")
    figures = [_source_figure(name, chosen, random)] if len(chosen) > 1 else []
    if not figures:
        sentences.append(f"All rows are of one source, {cut(next(iter(chosen), 'none'), 80)}.")
    figures.append(_histogram("lengths", "Length", "supervised tokens", sample.num_supervised_M, groups))
    if sample.losses_MC is None:
        sentences.append("This run has no loss trajectories, so there are no losses to compare.")
    else:
        figures.append(_histogram("final-losses", "Loss at the last point", "nats per token", sample.losses_MC[:, -1],
                                  groups))
        figures.append(_histogram("mean-losses", "Mean loss over the trajectory", "nats per token",
                                  sample.losses_MC.mean(axis=1), groups))
    return Section(tuple(sentences), tuple(figures))


def _source_figure(name: str, chosen: Shares, random: Shares | None) -> Figure:
    groups = {"pool": {source: counts["pool"] for source, counts in chosen.items()},
              name: {source: counts["selected"] for source, counts in chosen.items()}}
    if random is not None:
        groups["random"] = {source: counts["selected"] for source, counts in random.items()}
    shown = list(chosen)[:_MOST_SOURCES]
    rest = len(chosen) - len(shown)
    shares = {group: _shares(counts, shown, rest) for group, counts in groups.items()}
    labels = [*shown, *([f"{rest} others"] if rest else [])]
    traces = [
        {"type": "bar", "orientation": "h", "name": plot_text(group), "y": [plot_text(label) for label in labels],
         "x": [100 * share for share in values], "marker": {"color": colour(order)}, "hovertemplate": "%{x:.2f} %"}
        for order, (group, values) in enumerate(shares.items())
    ]
    table = Table("Sources", ("source", *(part for group in groups for part in (f"{group}: rows", "share"))), tuple(
        (cut(label, 80), *(text for group in groups for text in (
            f"{groups[group].get(label, 0):,}" if label in chosen else "-", percent(shares[group][row]))))
        for row, label in enumerate(labels)))
    changes = sorted(zip(labels, shares["pool"], shares[name], strict=True), key=lambda c: -abs(c[2] - c[1]))
    description = "Share of each source. " + "; ".join(
        f"{cut(label, 40)}: {percent(before)} of the pool, {percent(after)} of the selection"
        for label, before, after in changes[:5]) + "."
    return Figure("sources", "Sources", description, traces,
                  {"barmode": "group", "xaxis": {"title": {"text": "share (%)"}},
                   "yaxis": {"autorange": "reversed", "type": "category"}}, (table,), 140 + 34 * len(labels))


def _shares(counts: Mapping[str, int], shown: list[str], rest: int) -> list[float]:
    total = max(sum(counts.values()), 1)
    shares = [counts.get(source, 0) / total for source in shown]
    return [*shares, 1 - sum(shares)] if rest else shares


def _histogram(
    key: str, title: str, unit: str, values_M: np.ndarray, groups: Mapping[str, np.ndarray]
) -> Figure:
    """Return each group's distribution over common bins, as shares of the group."""
    filled = {group: values_M[rows_M].astype(np.float64) for group, rows_M in groups.items() if rows_M.any()}
    low, high = np.percentile(np.concatenate(list(filled.values())), _WITHIN)
    edges = _edges(float(low), float(high), whole=np.issubdtype(values_M.dtype, np.integer))
    middles = [round(float(middle), 4) for middle in (edges[1:] + edges[:-1]) / 2]
    traces: list[dict[str, Any]] = []
    for order, (group, values) in enumerate(filled.items()):
        shares = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)
        traces.append({
            "type": "scatter", "mode": "lines", "name": plot_text(group), "x": middles,
            "y": [round(100 * float(share), 4) for share in shares],
            "line": {"color": colour(order), "width": 2.5, "shape": "hvh", "dash": ("solid", "dash", "dot")[order]},
            "hovertemplate": "%{y:.2f} % at %{x:.4g}",
        })
    table = Table(f"{title} ({unit})", ("", "rows", "mean", *(_quantile(q) for q in _QUANTILES)), tuple(
        (group, f"{len(values):,}", f"{values.mean():,.4g}",
         *(f"{v:,.4g}" for v in np.percentile(values, _QUANTILES))) for group, values in filled.items()))
    medians = "; ".join(f"{row[0]}: median {row[4]}, 10 to 90 % {row[3]} to {row[5]}" for row in table.rows)
    description = f"{title} in {unit}. {medians}. Values beyond the axis are in its last bin."
    return Figure(key, f"{title} ({unit})", description, traces,
                  {"xaxis": {"title": {"text": unit}},
                   "yaxis": {"title": {"text": "rows (%)"}, "rangemode": "tozero"}}, (table,), 340)


def _edges(low: float, high: float, *, whole: bool) -> np.ndarray:
    """Return about 30 bins; of whole numbers each bin has as many, or every other one would stand out."""
    if not whole:
        return np.linspace(low, high if high > low else low + 1, _NUM_BINS + 1)
    width = max(1, int(np.ceil((high - low + 1) / _NUM_BINS)))
    return np.arange(np.floor(low), np.ceil(high) + width + 1, width) - 0.5


def _quantile(q: int) -> str:
    return "median" if q == 50 else f"{q}th percentile"
