"""Write the parts of docs/ that the code knows best: `python docs/make_reference.py`.

Each stands between `<!-- generated: NAME -->` and `<!-- end -->`. With `--check` nothing is written, and the exit code
is 1 where a part is not what the code says.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.registry import FORMATS, METRICS, SELECTORS, SHAPES
from s2l_ray.recipe.settings import WHERE

DOCS = Path(__file__).resolve().parent
_HUGE = 2**32
_PART = re.compile(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def recipe() -> str:
    """Return a table of each section's keys: type, default, what it is."""
    return "\n\n".join(_section(path, model) for path, model in _sections("", Recipe))


def selectors() -> str:
    """Return the table of selectors: what each needs, draws and takes, and chooses."""
    rows = [("selector", "needs", "seed", "own settings", "chooses")]
    for selector in map(SELECTORS.find, SELECTORS.own):
        needs = ", ".join(f"`{need}`" for need in sorted(selector.needs))
        settings = ", ".join(f"`{name}`" for name in sorted(selector.parameters))
        rows.append((f"`{selector.name}`", needs, "yes" if selector.takes_seed else "", settings, _summary(selector)))
    return _table(rows)


def metrics() -> str:
    """Return the table of metrics."""
    rows = [("metric", "needs", "better", "what it is")]
    for metric in map(METRICS.find, METRICS.own):
        rows.append((f"`{metric.name}`", metric.needs, metric.better, _summary(metric)))
    return _table(rows)


def shapes() -> str:
    """Return the table of row shapes: how each is recognised, and what becomes of its fields."""
    rows = [("shape", "recognised by the columns", "columns it may have", "what a row is", "what each field becomes")]
    for shape in sorted(map(SHAPES.find, SHAPES.own), key=lambda shape: -shape.precedence):
        needs = _columns(shape.required) + ("" if shape.is_found else f", only with `data.format={shape.name}`")
        becomes = "; ".join(f"`{field}`: {shape.what_becomes_of(field)}" for field in shape.fields)
        rows.append((f"`{shape.name}`", needs, _columns(shape.optional), _summary(shape), becomes))
    return _table(rows)


def formats() -> str:
    """Return the table of file formats."""
    rows = [("format", "endings", "how it is read")]
    rows += [(f"`{one.name}`", ", ".join(f"`{end}`" for end in one.endings), _summary(one)) for one in FORMATS]
    return _table(rows)


PARTS: dict[str, Callable[[], str]] = {
    "recipe": recipe, "selectors": selectors, "metrics": metrics, "shapes": shapes, "formats": formats,
}


def rewritten(text: str) -> str:
    """Return a document with its generated parts as the code says them now."""
    return _PART.sub(lambda found: f"<!-- generated: {found[1]} -->\n{PARTS[found[1]]()}\n<!-- end -->", text)


def stale() -> list[str]:
    """Return the documents that are not what the code says."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
    return [path.name for path, text in texts.items() if rewritten(text) != text]


def _summary(thing: Any) -> str:
    """Return the first paragraph of a class's docstring, on one line."""
    first = (type(thing).__doc__ or "").strip().split("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")


def _columns(fields: dict[str, tuple[str, ...]]) -> str:
    return ", ".join(" or ".join(f"`{column}`" for column in columns) for columns in fields.values())


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def _sections(path: str, model: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    """Return every section below one with its dotted path, itself first."""
    found = [(path, model)]
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            below = f"{path}.{name}" if path else name
            found += [item for item in _sections(below, inner) if item[0] not in dict(found)]
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _section(path: str, model: type[BaseModel]) -> str:
    heading = f"### `{path}`" if path else "### The recipe itself"
    summary = " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())
    rows = [("key", "type", "default", "what it is")]
    for name, field in model.model_fields.items():
        about = " ".join((field.description or "").split())
        if WHERE in field.metadata:
            about += " *(changes no result)*"
        rows.append((f"`{name}`", _type(field), _default(field), about.replace("|", "\\|")))
    return f"{heading}\n\n{summary}\n\n{_table(rows)}"


def _type(field: FieldInfo) -> str:
    return _bounded(_name(field.annotation), field.metadata).replace("|", "\\|")


def _bounded(name: str, metadata: Iterable[Any]) -> str:
    """Return a type with its bounds; those of an inner type lie in a field of its own."""
    found = [inner for one in metadata for inner in (one.metadata if isinstance(one, FieldInfo) else [one])]
    bounds = [(sign, getattr(item, key, None)) for item in found
              for key, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))]
    # What only keeps a number within the machine's own is no news to anybody.
    limits = [f"{sign} {bound:g}" for sign, bound in bounds if bound is not None and bound < _HUGE]
    return f"{name} {' and '.join(limits)}" if limits else name


def _name(annotation: Any) -> str:
    """Return a type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bounded(_name(inner[0]), inner[1:])
    names = [_name(one) for one in inner if one is not ...] if origin is not Literal else []
    compound = {
        Literal: lambda: " or ".join(f"`{value}`" for value in inner),
        Union: lambda: " or ".join(dict.fromkeys(names)), UnionType: lambda: " or ".join(dict.fromkeys(names)),
        list: lambda: f"list of {_grouped(names[0])}", tuple: lambda: f"[{', '.join(names)}]",
        dict: lambda: f"{names[0]}: {names[1]}",
    }
    if origin in compound:
        return compound[origin]()
    if _models(annotation):
        return "section"
    words = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null",
             Any: "anything"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _grouped(name: str) -> str:
    return f"({name})" if " or " in name else name


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its defaults"
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return f"`{value}`".replace("|", "\\|").replace("\n", " ")


def main() -> int:
    """Write what is stale, or with --check name it."""
    found = stale()
    if "--check" in sys.argv[1:]:
        for name in found:
            print(f"docs/{name} is not what the code says: run python docs/make_reference.py", file=sys.stderr)
        return int(bool(found))
    for name in found:
        (DOCS / name).write_text(rewritten((DOCS / name).read_text(encoding="utf-8")), encoding="utf-8")
        print(f"docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
