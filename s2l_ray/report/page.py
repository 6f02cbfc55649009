"""The page: one HTML file that needs nothing else, in which text from the data is only ever text."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from s2l_ray.report.figures import Section

# In JSON inside HTML: no tag can begin or end, and the two line separators that JavaScript took for line ends.
_ESCAPED = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Page:
    """All that one page says."""

    title: str
    subtitle: str
    sections: Mapping[str, Section]
    clusters: Sequence[Mapping[str, Any]]
    """The clusters with their members, for the script."""
    rows: Sequence[Mapping[str, Any]]
    """The rows to search, for the script."""


def render(page: Page) -> bytes:
    """Return the page in UTF-8.

    The browser is told to run these scripts by their hashes and no other, and to open no connection: should a text
    ever get into the page as markup, it still could not run.
    """
    scripts = {"plotly": get_plotlyjs(), "page": _asset("page.js")}
    figures = {figure.name: {"data": figure.data, "layout": figure.layout}
               for section in page.sections.values() for figure in section.figures}
    fractions = page.sections["clusters"].extra.get("fractions")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(_asset("page.html.j2")).render(
        page=page,
        policy=_policy(scripts.values()),
        style=Markup(_asset("page.css")),
        scripts={name: Markup(script) for name, script in scripts.items()},
        data={"figures": embedded(figures), "rows": embedded(page.rows),
              "clusters": embedded({"fractions": fractions, "clusters": page.clusters})},
    )
    return text.encode("utf-8", "replace")  # a JSON file may hold half a surrogate pair, which no file can


def embedded(content: Any) -> Markup:
    """Return JSON that may stand inside a script element."""
    return Markup(json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPED))


def _policy(scripts: Any) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
            "base-uri 'none'; form-action 'none'")


def _asset(name: str) -> str:
    return files("s2l_ray.report").joinpath(name).read_text(encoding="utf-8")
