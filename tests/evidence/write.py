"""The table of evidence as JSON, Markdown and a page that needs nothing else."""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tests.evidence.cells import Place, arms_of
from tests.evidence.claims import claims
from tests.evidence.compare import Results, agreement, answered, chosen, comparisons, detectable, gate
from tests.evidence.kept import write_kept
from tests.evidence.setting import FULL, RANDOM

_REACH = 6  # of the middle difference of a plot, to each side
_TEMPLATE = Path(__file__).with_name("page.html.j2")


def write_all(place: Place) -> dict[str, Any]:
    """Write evidence.json, .md and .html of what there is, and cells.jsonl; return the last line's facts."""
    results = Results(place)
    told = evidence(results)
    (place.folder / "evidence.json").write_text(json.dumps(told, indent=1) + "\n")
    (place.folder / "evidence.md").write_text(markdown(told))
    (place.folder / "evidence.html").write_text(page(told))
    (place.folder / "evidence.svg").write_text(drawing(told))
    lines = (json.dumps({"name": name, **facts}, sort_keys=True) for name, facts in sorted(results.facts.items()))
    (place.folder / "cells.jsonl").write_text("".join(f"{line}\n" for line in lines))
    write_kept(place, place.folder / "cells.parquet")
    return {"cells": len(results.cells), "comparisons": len(told["comparisons"]),
            "claims": {claim["claim"] + f" [{claim['pool']}]": claim["verdict"] for claim in told["claims"]}}


def evidence(results: Results) -> dict[str, Any]:
    """Return all that the cells say, as plain values."""
    setting, pools = results.place.setting, results.pools
    return {
        "setting": setting.told(), "name": setting.name(), "torch": torch.__version__,
        "machines": sorted({str(facts.get("machine", "not kept")) for facts in results.facts.values()}),
        "commits": sorted({str(facts["commit"]) for facts in results.facts.values()}),
        "devices": sorted({str(facts["device"]) for facts in results.facts.values()}),
        "pools": {pool: {**_rows_of(results, pool), "gate": gate(results, pool), "detectable": detectable(results, pool),
                         "agreement": agreement(results, pool),
                         "chosen": chosen(results, pool, [FULL, *arms_of(setting, pool)])} for pool in pools},
        "comparisons": [one.to_dict() for one in comparisons(results)],
        "losses": [{"pool": arm.pool, "arm": arm.arm, "budget": arm.budget, "alike": arm.alike,
                    "seeds": {str(seed): float((results.weights(arm.pool) * losses_N).mean()) for seed, losses_N in sorted(seeds.items())}}
                   for arm, seeds in sorted(results.losses.items(), key=str)],
        "answered": answered(results),
        "refused": [{"pool": arm.pool, "arm": arm.arm, "budget": arm.budget, "why": why}
                    for arm, why in sorted(results.refused.items(), key=str)],
        "claims": [claim.to_dict() for claim in claims(results)],
    }


def _rows_of(results: Results, pool: str) -> dict[str, Any]:
    facts = results.facts[f"{pool}-rows"]
    return {name: facts[name] for name in ("rows", "leaks", "searched", "tokens", "supervised_tokens", "held_out", "sources")}


def beside(told: dict[str, Any], pool: str, other: str, budget: float, alike: str) -> list[dict[str, Any]]:
    """Return the comparisons of a pool at a budget with one arm, the lowest loss first."""
    found = [one for one in told["comparisons"] if one["pool"] == pool and one["beside"] == other
             and one["budget"] == budget and one["alike"] == alike]
    return sorted(found, key=lambda one: float(one["value"]))


def tables(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each table of comparisons with random: its caption, and its rows."""
    found = []
    for pool in told["pools"]:
        for alike in ("steps", "tokens"):
            for budget in told["setting"]["budgets"]:
                rows = beside(told, pool, RANDOM, budget, alike)
                if rows:
                    caption = f"{pool}: {budget:.0%} at equal {alike}, held-out loss less that of random"
                    found.append({"caption": caption, "rows": rows, "full": {
                        one["arm"]: one for one in beside(told, pool, FULL, budget, alike)}})
    return found


def markdown(told: dict[str, Any]) -> str:
    """Return the table for docs."""
    lines = [f"Setting `{told['name']}`, {'; '.join(told['machines'])}, torch {told['torch']}, commits {', '.join(told['commits'])}.", ""]
    for pool, facts in told["pools"].items():
        seen = facts["detectable"]
        lines.append(f"{pool}: {facts['rows']:,} rows, {facts['tokens']:,} tokens; a difference of {seen:.4f} nats is seen in "
                     "four cases of five." if seen else f"{pool}: {facts['rows']:,} rows.")
        lines += [f"* {what}: {one['value']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f}) beside random: "
                  f"{'more data helps' if one['helps'] else 'more data does not help'}" for what, one in facts["gate"].items()]
    lines += ["", "| claim | pool | | figures |", "|---|---|---|---|"]
    lines += [f"| {one['claim']} | {one['pool']} | {one['verdict']} | {one['figures']} |" for one in told["claims"]]
    for table in tables(told):
        lines += ["", f"{table['caption']}:", "", "| arm | difference | 95 % | p, Holm | | less that of full |", "|---|---|---|---|---|---|"]
        lines += [f"| `{one['arm']}` | {one['value']:+.4f} | {one['low']:+.4f} to {one['high']:+.4f} | {one['p_holm']:.3f} | "
                  f"{one['verdict']} | {_short(table['full'].get(one['arm']))} |" for one in table["rows"]]
    if told["answered"]:
        lines += ["", "| questions answered right | budget | alike | share | 95 % | less that of random |", "|---|---|---|---|---|---|"]
        lines += [f"| `{one['arm']}` of {one['pool']} | {one['budget']:.0%} | {one['alike']} | {one['value']:.3f} | {one['low']:.3f} "
                  f"to {one['high']:.3f} | {_beside(one['less_random'])} |" for one in told["answered"]]
    return "\n".join(lines) + "\n"


def _beside(one: dict[str, Any] | None) -> str:
    return "-" if one is None else f"{one['value']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"


def _short(one: dict[str, Any] | None) -> str:
    return "-" if one is None else f"{one['value']:+.4f} ({one['verdict']})"


def page(told: dict[str, Any]) -> str:
    """Return the page: the claims, a plot of the differences beside each table, what was chosen, how to repeat it."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = files("s2l_ray.report").joinpath("page.css").read_text(encoding="utf-8")
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        told=told, style=Markup(style), tables=[{**table, "plot": plot(table["rows"])} for table in tables(told)])


_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {{ height }}" font-family="sans-serif" font-size="12" role="img">
<title>Held-out loss of each arm less that of random, in nats, with 95 % intervals</title>
<rect width="720" height="{{ height }}" fill="#fff"/>
{% for table in tables %}
<text x="8" y="{{ table.top }}" font-weight="bold">{{ table.caption }} (nats; left is better)</text>
{% for mark in table.plot.marks %}
{% set y = table.top + 18 * loop.index %}
{% set colour = {"better": "#0a7d3c", "worse": "#c0392b"}.get(mark.verdict, "#333") %}
<text x="8" y="{{ y + 4 }}">{{ mark.arm }}</text><text x="230" y="{{ y + 4 }}" text-anchor="end">{{ mark.value }}</text>
<path d="M{{ 240 + 4.7 * mark.from }} {{ y }}H{{ 240 + 4.7 * mark.to }}M{{ 240 + 4.7 * mark.at }} {{ y - 5 }}v10" stroke="{{ colour }}" stroke-width="2"/>
{% endfor %}
<path d="M{{ 240 + 4.7 * table.plot.zero }} {{ table.top + 6 }}V{{ table.top + 18 * table.plot.marks | length + 8 }}" stroke="#999" stroke-dasharray="3 3"/>
{% endfor %}
</svg>
"""


def drawing(told: dict[str, Any]) -> str:
    """Return each pool's comparisons at the main budget as a drawing for a document."""
    drawn, top = [], 20
    for table in tables(told):
        first = table["rows"][0]
        if (first["budget"], first["alike"]) == (told["setting"]["main_budget"], "steps"):
            drawn.append({"caption": table["caption"], "plot": plot(table["rows"]), "top": top})
            top += 18 * len(table["rows"]) + 44
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_SVG).render(tables=drawn, height=top)


def plot(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return where a plot of intervals has its marks, in parts of its width; what is far out is at its edge."""
    most = _REACH * sorted(abs(one["value"]) for one in rows)[len(rows) // 2]
    low, high = (max(-most, min(0.0, *(one["low"] for one in rows))), min(most, max(0.0, *(one["high"] for one in rows))))
    width = (high - low) or 1.0

    def at(value: float) -> float:
        return round(4 + 92 * (min(max(value, low), high) - low) / width, 2)

    return {"zero": at(0.0), "low": f"{low:+.3f}", "high": f"{high:+.3f}",
            "marks": [{"arm": one["arm"], "value": f"{one['value']:+.3f}", "from": at(one["low"]), "to": at(one["high"]),
                       "at": at(one["value"]), "verdict": one["verdict"].replace(" ", "-")} for one in rows]}


