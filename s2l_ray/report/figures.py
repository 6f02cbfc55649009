"""Tables and plots as plain data, and numbers as people read them."""

import bisect
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from s2l_ray.metrics.seeds import SeedEstimate

NUM_COLOURS = 7
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
_ESCAPED = re.compile("[<>&\u2028\u2029\x00-\x1f]")  # six bytes in the page's JSON, line ends fewer
_LONG = re.compile("[<>&\u2028\u2029\x00-\x1f\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; the first column names each row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: frozenset[int] = frozenset({0})
    """Columns of text; the others are numbers, set flush right."""


@dataclass(frozen=True)
class Figure:
    """A plot, what it shows in words, and the table that says the same."""

    name: str
    title: str
    description: str
    """What a reader who cannot see the plot is told."""
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    tables: tuple[Table, ...] = ()
    """The same as tables, in a fold below it."""
    height: int = 420


@dataclass(frozen=True)
class Section:
    """One section's content: sentences, then figures and tables. What is missing is a sentence, never a gap."""

    sentences: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What only this section has, for its own part of the page."""


def colour(number: int, opacity: float = 1.0) -> str:
    """Return a token for a colour of the palette, which the page puts in by its scheme (light or dark)."""
    return f"@{number % NUM_COLOURS}/{opacity:g}"


def style(number: int) -> dict[str, Any]:
    """Return a trace's line and marker: colour, dash and symbol differ together, so none has to be told by colour."""
    return {
        "line": {"color": colour(number), "dash": _DASHES[number % len(_DASHES)], "width": 2},
        "marker": {"color": colour(number), "symbol": _SYMBOLS[number % len(_SYMBOLS)], "size": 8},
    }


def plot_text(text: str, length: int = 40) -> str:
    """Return text that Plotly shows as it is: it reads <b>, <a href> and <br> in every label as markup."""
    return cut(text, length).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(text: str, length: int) -> str:
    """Return the text's first characters, with a mark where more followed.

    Characters that take more than three bytes in the page (emoji, and < > & as they stand in its JSON) count for more,
    so that no data makes a page larger than 3 bytes for each of `length`.
    """
    kept = text if len(text) <= length else text[: length - 1]
    if _LONG.search(kept):
        sizes = (6 if _ESCAPED.match(mark) else len(mark.encode("utf-8", "replace")) for mark in kept)
        kept = kept[: bisect.bisect_right(list(itertools.accumulate(sizes)), 3 * (length - 1))]
    return kept if len(kept) == len(text) else f"{kept}…"


def number(value: float, digits: int = 3) -> str:
    """Return a figure with its digits; a smaller one with two that count, one below 1e-4 as 0.000."""
    if math.isnan(value):
        return "-"
    return f"{value:.{digits}f}" if abs(value) >= 0.01 or abs(value) < 1e-4 else f"{value:.2g}"


def probability(p: float) -> str:
    """Return a p-value."""
    return "below 0.001" if p < 0.001 else number(p)


def percent(share: float) -> str:
    """Return a share as a percentage: 11 %, 0.5 %."""
    text = f"{100 * share:.2f}".rstrip("0").rstrip(".") if share < 0.1 else f"{100 * share:.1f}".removesuffix(".0")
    return f"{text}\N{NO-BREAK SPACE}%"


def interval(estimate: SeedEstimate, *, signed: bool = False) -> str:
    """Return the 95 % interval: 0.585 to 0.671, or with signs for a difference."""
    if signed:
        return f"{sign(estimate.low)} to {sign(estimate.high)}"
    return f"{number(estimate.low)} to {number(estimate.high)}"


def sign(value: float) -> str:
    """Return a difference with its sign."""
    return f"+{number(value)}" if value >= 0 else f"\N{MINUS SIGN}{number(-value)}"


def counted(count: int, what: str) -> str:
    """Return a number of things: 1 seed, 3 seeds."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def from_what(estimate: SeedEstimate) -> str:
    """Return what a figure stands on."""
    return f"{counted(estimate.num_examples, 'example')}, {counted(estimate.num_seeds, 'seed')}"
