"""Rows to search and page through: chosen and rejected ones, each with the reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2l_ray.report.arms import facts_of
from s2l_ray.report.figures import Section, cut
from s2l_ray.report.members import Members
from s2l_ray.report.pool import PoolSample

MOST_ROWS = 2000
TEXT_LENGTH = 300
"""Characters kept of a prompt and of a response each, so 600 of a row."""


@dataclass(frozen=True)
class Browsed:
    """The rows of the sample that are embedded, chosen ones first by rank."""

    rows: tuple[int, ...]
    num_chosen: int


def draw_rows(sample: PoolSample, rng: np.random.Generator) -> Browsed:
    """Draw at most 2,000 rows: half of them chosen, where there are as many of both."""
    chosen = np.flatnonzero(sample.chosen_M)
    rejected = np.flatnonzero(sample.drawn_M & ~sample.chosen_M)
    num_chosen = min(len(chosen), max(MOST_ROWS // 2, MOST_ROWS - len(rejected)))
    chosen = rng.permutation(chosen)[:num_chosen]
    chosen = chosen[np.argsort(sample.places_M[chosen], kind="stable")]
    rejected = rng.permutation(rejected)[: MOST_ROWS - num_chosen]
    return Browsed((*chosen.tolist(), *rejected.tolist()), num_chosen)


def browse_section(browsed: Browsed, sample: PoolSample, num_candidates: int) -> Section:
    """Return what the rows below are a sample of."""
    shown, num_selected = len(browsed.rows), sample.selection.num_rows
    sentences = [f"A seeded sample of {shown:,} of {sample.num_rows:,} rows: {browsed.num_chosen:,} of "
                 f"{num_selected:,} chosen, {shown - browsed.num_chosen:,} of {sample.num_rows - num_selected:,} "
                 "rejected. Texts are cut; the chosen rows lie whole in subset.jsonl."]
    if num_candidates < sample.num_rows:
        sentences.append(f"{sample.num_rows - num_candidates:,} rows of the pool were no candidates: the target's "
                         "tokenizer or an embedding leaves nothing of them to train on. They count as rejected here.")
    return Section(tuple(sentences))


def rows_of(
    browsed: Browsed, sample: PoolSample, members: Members, selector: str, texts: Mapping[int, tuple[str, str]]
) -> list[dict[str, Any]]:
    """Return the rows as the page's script shows them."""
    clusters, column = members.by_number(), sample.selection.to_pydict()
    found = []
    for row in browsed.rows:
        losses = None if sample.losses_MC is None else sample.losses_MC[row]
        found.append({
            "id": cut(sample.ids[row].as_py(), 120), "chosen": bool(sample.chosen_M[row]),
            "why": _reason(row, sample, members, clusters, selector, column),
            "source": cut(str(sample.sources_M[row]), 80), "tokens": int(sample.num_tokens_M[row]),
            "mean": None if losses is None else round(float(losses.mean()), 4),
            "last": None if losses is None else round(float(losses[-1]), 4),
            "prompt": texts[row][0], "response": texts[row][1],
        })
    return found


def _reason(
    row: int, sample: PoolSample, members: Members, clusters: Mapping[int, Mapping[str, Any]], selector: str,
    column: Mapping[str, list[Any]],
) -> str:
    """Say why a row was chosen or not."""
    budget, cluster = sample.selection.num_rows, clusters.get(int(members.labels_M[row]))
    distance = members.distances_M[row]
    far = "" if np.isnan(distance) else f", distance {distance:.3f} from its centroid"
    if sample.chosen_M[row]:
        place = int(sample.places_M[row])
        rank = f"rank {column['rank'][place] + 1:,} of {budget:,}"
        if cluster is not None:
            return (f"{rank}: cluster {cluster['cluster']} gives {cluster['quota']:,} of its {cluster['size']:,} "
                    f"members{far}")
        score = column["score"][place]
        return f"{rank}: score {score:.4g}" if score is not None else f"{rank}: {_how(selector, chosen=True)}"
    if cluster is not None:
        return (f"cluster {cluster['cluster']} gives {cluster['quota']:,} of its {cluster['size']:,} members, not this "
                f"one{far}")
    return _how(selector, chosen=False).format(budget=f"{budget:,}")


def _how(selector: str, *, chosen: bool) -> str:
    """Say in general how a selector without scores or clusters decides."""
    known = facts_of(selector)
    if known is not None and known.control in ("chance", "matched chance"):
        return "drawn at random" if chosen else "not drawn at random"
    ranks = known is not None and known.is_nested
    if chosen:
        return f"chosen by {selector}"
    return f"not among the {{budget}} that {selector} ranks first" if ranks else f"not chosen by {selector}"


