"""The tables that show people how selections differ."""

from typing import Any

from rich.markup import escape
from rich.table import Table


def tables_of(found: dict[str, Any]) -> list[Table]:
    """Return tables for people."""
    ours, pairs = found["selections"], found["pairs"]
    tables = [
        _table("selections", ["", "selector", "seed", "budget asked", "given", "of", "near-duplicates", "where"], [
            [s["name"], s["selector"] or "-", _text(s["seed"]), _text(s["budget_asked"]), f"{s['budget']:,}",
             f"{s['num_candidates']:,}", _percent(s["near_duplicate_share"]), s["path"]] for s in ours]),
        _table("pairs (in brackets: two random selections; by lot: these two, had each drawn lots of its own)",
               ["A B", "common", "by lot", "Jaccard", "share of A in B", "share of B in A",
                "Spearman of the common scores"], [
            [f"{p['a']} {p['b']}", f"{p['num_common']:,} ({p['num_common_by_chance']:,.1f})",
             "-" if p["num_common_by_lot"] is None else f"{p['num_common_by_lot']:,.1f}",
             f"{p['jaccard']:.3f} ({p['jaccard_by_chance']:.3f})", _percent(p["share_of_a_in_b"]),
             _percent(p["share_of_b_in_a"]), p["spearman_note"] or f"{p['spearman']:+.3f}"] for p in pairs]),
    ]
    headings = ["pool", *(s["name"] for s in ours)]
    if ours[0]["sources"]:
        tables.append(_table("share by source", ["", *headings], [
            [source, _percent(whole["pool"]), *(_percent(s["sources"][source]["selected"]) for s in ours)]
            for source, whole in ours[0]["sources"].items()]))
    if ours[0]["lengths"]:
        tables.append(_table("share by supervised tokens", ["fifth of the pool", *headings], [
            ["none (ties)" if fifth["from"] is None else f"{fifth['from']:,.0f} to {fifth['to']:,.0f}",
             _percent(fifth["pool"]), *(_percent(s["lengths"][number]["selected"]) for s in ours)]
            for number, fifth in enumerate(ours[0]["lengths"])]))
    if "cluster_stability" in found:
        tables.append(_table("k-means from seed to seed", ["clusters", "adjusted Rand index, mean", "range"], [
            [f"{k['num_clusters']:,}", f"{k['mean']:.3f}", f"{k['low']:.3f} to {k['high']:.3f}"]
            for k in found["cluster_stability"]]))
    return tables


def early_table(found: dict[str, Any]) -> Table:
    """Return how far selections by fewer points agree with that by all; the last row is another seed's."""
    rows = [[f"{row['points']}", f"{row['every']}", f"{row['training']:.0%}", f"{row['scoring']:.0%}", *_agreement(row)]
            for row in found["rows"]]
    table = _table(
        f"{found['selector']}, {found['budget']:,} of {found['num_candidates']:,}: agreement with all points",
        ["points", "every", "of the training", "of the scoring", "clusters (Rand)", "chosen too", "by lot"],
        [*rows, ["all, another seed", "1", "100%", "100%", *_agreement(found["seeds"])]])
    table.caption = (f"by lot: independent draws; from the same clusters {_percent(found['expected_at_most'])}, any "
                     f"two selections {_percent(found['overlap_by_chance'])}")
    return table


def _agreement(row: dict[str, float | None]) -> list[str]:
    return [f"{row['rand']:.3f}", _percent(row["overlap"]), _percent(row["expected"])]


def _table(title: str, headings: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
