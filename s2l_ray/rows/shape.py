"""What a row shape is, and which one fits a table's columns."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SHAPES
from s2l_ray.rows.conversation import BadRow, Conversation
from s2l_ray.rows.reasons import Reason


class Shape(ABC):
    """A way to write an exchange as a row; each field is read from the first of its columns that the row holds."""

    name: ClassVar[str]
    """As its module is called."""
    required: ClassVar[dict[str, tuple[str, ...]]]
    """Field -> the columns that it may have."""
    optional: ClassVar[dict[str, tuple[str, ...]]] = {}
    precedence: ClassVar[int]
    """Of several that fit the highest is taken: files that carry all turns often repeat the first as a prompt."""

    @abstractmethod
    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the conversation of a row's fields; only optional ones may be None.

        Raises
        ------
        BadRow
            A field is missing, empty or of the wrong type.
        """

    @property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """Return every field with its columns."""
        return self.required | self.optional

    def missing(self, names: Iterable[str], renames: Mapping[str, str]) -> list[str]:
        """Return the required fields that no column gives."""
        there = set(names)
        return [
            field for field, columns in self.required.items()
            if not there & set([renames[field]] if field in renames else columns)
        ]


def detect_shape(column_names: Iterable[str], columns: Mapping[str, str] | None = None) -> str:
    """Return the shape whose columns are all there, of several the one of the highest precedence.

    `columns` renames as in `to_conversation`; where it is given, only shapes with all its fields are tried.

    Raises
    ------
    InputError
        No shape fits; the message lists the columns found, what each shape needs, and near names.
    """
    names, renames = list(column_names), dict(columns or {})
    candidates = [shape for shape in SHAPES if renames.keys() <= shape.fields.keys()]
    fitting = [shape for shape in candidates if not shape.missing(names, renames)]
    if not fitting:
        raise InputError(_no_shape_fits(names, renames, any_candidate=bool(candidates)))
    return str(max(fitting, key=lambda shape: shape.precedence).name)


def to_conversation(row: Mapping[str, Any], shape: str, columns: Mapping[str, str] | None = None) -> Conversation:
    """Return the row's conversation, its texts unchanged. `columns` maps the shape's fields to columns.

    A user turn that nobody answers at the end is dropped.

    Raises
    ------
    BadRow
        A field is missing, empty or of the wrong type.
    InputError
        There is no such shape, or `columns` renames a field that it has not.
    """
    found = SHAPES.find(shape)
    return found.conversation(_fields(row, found, columns or {}))


def _fields(row: Mapping[str, Any], shape: Shape, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of every field of the shape; only optional ones may be None."""
    unknown = ", ".join(sorted(columns.keys() - shape.fields.keys()))
    if unknown:
        known = ", ".join(shape.fields)
        raise InputError(f"data.columns: {unknown} is no field of format {shape.name}; its fields are {known}")
    fields = {}
    for field, defaults in shape.fields.items():
        accepted = (columns[field],) if field in columns else defaults
        value = next((row[name] for name in accepted if row.get(name) is not None), None)
        if value is None and field in shape.required:
            null = [name for name in accepted if name in row]
            what = f"column {null[0]!r} is null" if null else f"no column {' or '.join(map(repr, accepted))}"
            raise BadRow(Reason.MISSING_FIELD, f"{what}; the row has {', '.join(map(str, row))[:200]}")
        fields[field] = value
    return fields


def _no_shape_fits(names: list[str], renames: Mapping[str, str], *, any_candidate: bool) -> str:
    lines = [f"no known format fits the columns: {', '.join(map(str, names)) or '(none)'}"]
    if renames and not any_candidate:
        lines.append(f"data.columns has {', '.join(renames)}, not the fields of any one format")
    absent = [column for column in renames.values() if column not in names]
    if absent:
        lines.append(f"data.columns names columns that are not there: {', '.join(absent)}")
    suggestions = []
    for shape in sorted(SHAPES, key=lambda shape: -shape.precedence):
        needs = " and ".join(" or ".join(accepted) for accepted in shape.required.values())
        lines.append(f"  {shape.name} needs {needs}")
        for field in shape.missing(names, renames):
            lowered = {str(column).lower(): str(column) for column in names}
            near = [m for n in shape.required[field] for m in difflib.get_close_matches(n, lowered, 1, 0.6)]
            suggestions += [f"data.columns.{field}={lowered[near[0]]}"] if near else []
    lines.append(f"near names: {', '.join(suggestions)}" if suggestions else "no column has a similar name")
    lines.append("set data.format=..., or name your columns, as in data.columns.instruction=...")
    return "\n".join(lines)
