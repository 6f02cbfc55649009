"""The same as one HTML file that needs nothing else, in which text from the rows is only ever text."""

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from s2l_ray.starter.inspect import SeenRow
from s2l_ray.starter.show import shortened, title_of, verdicts


def render(source: str, found: Sequence[tuple[str, str]], rows: Sequence[SeenRow], numbering: str,
           max_length: int) -> bytes:
    """Return the page in UTF-8. The browser is told to run no script and to open no connection."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              keep_trailing_newline=True)
    template = files("s2l_ray.starter").joinpath("page.html.j2").read_text(encoding="utf-8")
    shown = [{"title": title_of(row), "verdicts": verdicts(row, max_length), "row": row} for row in rows]
    text = environment.from_string(template).render(
        source=source, found=found, rows=shown, numbering=numbering, max_length=max_length, shortened=shortened,
    )
    return text.encode("utf-8", "replace")
