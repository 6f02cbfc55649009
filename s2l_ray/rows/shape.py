"""What a row shape is, and which one fits a table's columns."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SHAPES
from s2l_ray.rows.conversation import BadRow, Conversation
from s2l_ray.rows.missing import is_missing
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.turns import message_list

SYSTEM = {"system": ("system", "system_prompt", "system_message")}
TOOLS = {"tools": ("tools", "functions")}
"""Optional fields of several shapes: the columns that hold what stands before a conversation."""
_BECOME = {"system": "the first turn, the system's", "tools": "the tools that the chat template is given"}
_SEVERAL = "+"


class Shape(ABC):
    """A way to write an exchange as a row; each field is read from the first of its columns that holds anything."""

    name: ClassVar[str]
    """As its module is called."""
    required: ClassVar[dict[str, tuple[str, ...]]]
    """Field -> the columns that it may have."""
    optional: ClassVar[dict[str, tuple[str, ...]]] = {}
    becomes: ClassVar[dict[str, str]] = {}
    """Field -> what becomes of it, in words."""
    precedence: ClassVar[int]
    """Of several that fit the highest is taken: files that carry all turns often repeat the first as a prompt."""
    is_found: ClassVar[bool] = True
    """Whether columns alone are enough to take it; otherwise only data.format does."""

    @abstractmethod
    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the conversation of a row's fields; only optional ones may be None.

        Raises
        ------
        BadRow
            A field is missing, empty or of the wrong type.
        """

    def unread(self, fields: Mapping[str, Any]) -> list[str]:
        """Return, by name, what of the fields' values no model sees though their columns are read."""
        return []

    @cached_property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """Return every field with its columns."""
        return self.required | self.optional

    def what_becomes_of(self, field: str) -> str:
        """Return what a field becomes, in words; its own name where the shape does not say."""
        return {**_BECOME, **self.becomes}.get(field, field)

    def missing(self, names: Iterable[str], renames: Mapping[str, str]) -> list[str]:
        """Return the required fields that no column gives."""
        there = set(names)
        return [
            field for field, columns in self.required.items()
            if not there & set([renames[field]] if field in renames else columns)
        ]

    def columns(self, row: Mapping[str, Any], renames: Mapping[str, str]) -> dict[str, str]:
        """Return the column that each field is read from in this row, for those that have one with anything in it."""
        found = {}
        for field, defaults in self.fields.items():
            for name in (renames[field],) if field in renames else defaults:
                if name in row and not is_missing(row[name]):
                    found[field] = name
                    break
        return found


def detect_shape(column_names: Iterable[str], columns: Mapping[str, str] | None = None) -> str:
    """Return the shape whose columns are all there, of several the one of the highest precedence.

    `columns` renames as in `to_conversation`; where it is given, only shapes with all its fields are tried.

    Raises
    ------
    InputError
        No shape fits; the message lists the columns found, what each shape needs, and near names.
    """
    names, renames = list(column_names), dict(columns or {})
    fitting = fitting_shapes(names, renames)
    if not fitting:
        known = any(renames.keys() <= shape.fields.keys() for shape in SHAPES)
        raise InputError(_no_shape_fits(names, renames, any_candidate=known))
    return fitting[0]


def detect_shapes(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | None = None) -> str:
    """Return the shape of rows; where some hold another that their columns allow too, all of them: `messages+alpaca`.

    Raises
    ------
    InputError
        No shape fits.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    first, *others = fitting_shapes(names, columns or {}) or [detect_shape(names, columns)]
    taken = [first]
    for row in rows:
        own = fitting_shapes([name for name in row if not is_missing(row[name])], columns or {})
        if own and not set(own) & set(taken):
            taken.append(next(name for name in others if name in own))
    return _SEVERAL.join(taken)


def fitting_shapes(names: Iterable[str], columns: Mapping[str, str]) -> list[str]:
    """Return the shapes whose required columns are all there, the highest precedence first."""
    there = list(names)
    fitting = [shape for shape in SHAPES if shape.is_found and columns.keys() <= shape.fields.keys()
               and not shape.missing(there, columns)]
    return [str(shape.name) for shape in sorted(fitting, key=lambda shape: -shape.precedence)]


def shape_of(row: Mapping[str, Any], shape: str, columns: Mapping[str, str] | None = None) -> Shape:
    """Return the shape that a row of one of these is in: the first whose required fields it holds, else the first.

    Raises
    ------
    InputError
        There is no such shape, or `columns` renames a field that none of them has.
    """
    shapes: list[Shape] = [SHAPES.find(name) for name in shape.split(_SEVERAL)]
    unknown = columns.keys() - {field for one in shapes for field in one.fields} if columns else ()
    if unknown:
        known = ", ".join(dict.fromkeys(field for one in shapes for field in one.fields))
        wrong = ", ".join(sorted(unknown))
        raise InputError(f"data.columns: {wrong} is no field of format {shape}; its fields are {known}")
    if len(shapes) == 1:
        return shapes[0]
    held = [name for name in row if not is_missing(row[name])]
    return next((one for one in shapes if not one.missing(held, columns or {})), shapes[0])


def shape_identity(shape: str) -> dict[str, Any]:
    """Return what a fingerprint says of the packages that shapes of rows come from; nothing where all are ours."""
    return SHAPES.identity_of(*shape.split(_SEVERAL))


def to_conversation(row: Mapping[str, Any], shape: str, columns: Mapping[str, str] | None = None,
                    roles: Mapping[str, str] | None = None) -> Conversation:
    """Return the row's conversation, its texts unchanged.

    `columns` maps the shape's fields to columns, `roles` names of roles to those that are known. A user turn that
    nobody answers at the end is dropped.

    Raises
    ------
    BadRow
        A field is missing, empty or of the wrong type.
    InputError
        There is no such shape, or `columns` renames a field that it has not.
    """
    found = shape_of(row, shape, columns)
    fields = fields_of(row, found, columns or {})
    if roles:
        fields = {name: with_known_roles(value, roles) for name, value in fields.items()}
    return found.conversation(fields)


def with_known_roles(value: Any, roles: Mapping[str, str]) -> Any:
    """Return a list of messages with the roles that they are known by; any other value as it is."""
    messages = message_list(value, "messages") if isinstance(value, dict) else value
    if not isinstance(messages, list):
        return value

    def renamed(message: Any) -> Any:
        if not isinstance(message, dict):
            return message
        return {key: roles.get(told, told) if key in ("role", "from") and isinstance(told, str) else told
                for key, told in message.items()}

    return [renamed(message) for message in messages]


def fields_of(row: Mapping[str, Any], shape: Shape, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of every field of the shape; only optional ones may be None.

    Raises
    ------
    BadRow
        A required field is missing or empty.
    """
    held = shape.columns(row, columns)
    fields: dict[str, Any] = {field: row[held[field]] if field in held else None for field in shape.fields}
    for field, defaults in shape.required.items():
        if fields[field] is None:
            accepted = (columns[field],) if field in columns else defaults
            null = [name for name in accepted if name in row]
            if null and isinstance(row[null[0]], (str, list, dict)):
                raise BadRow(Reason.EMPTY_FIELD, f"{null[0]} is empty")
            what = f"column {null[0]!r} is null" if null else f"no column {' or '.join(map(repr, accepted))}"
            raise BadRow(Reason.MISSING_FIELD, f"{what}; the row has {', '.join(map(str, row))[:200]}")
    return fields


def _no_shape_fits(names: list[str], renames: Mapping[str, str], *, any_candidate: bool) -> str:
    lines = [f"no known format fits the columns: {', '.join(map(str, names)) or '(none)'}"]
    if renames and not any_candidate:
        lines.append(f"data.columns has {', '.join(renames)}, not the fields of any one format")
    absent = [column for column in renames.values() if column not in names]
    if absent:
        lines.append(f"data.columns names columns that are not there: {', '.join(absent)}")
    near: dict[str, str] = {}
    for shape in sorted(SHAPES, key=lambda shape: -shape.precedence):
        shown = [[*accepted[:3], *["..."] * (len(accepted) > 3)] for accepted in shape.required.values()]
        needs = " and ".join(" or ".join(accepted) for accepted in shown)
        lines.append(f"  {shape.name} needs {needs}")
        found = _near(shape, names, renames)
        near = found if len(found) > len(near) else near
    lines += [f"  {name} is broken: {reason}" for name, reason in SHAPES.broken.items()]
    suggestions = [f"data.columns.{field}={column}" for field, column in near.items()]
    lines.append(f"near names: {', '.join(suggestions)}" if suggestions else "no column has a similar name")
    lines.append("set data.format=..., or name your columns, as in data.columns.instruction=...")
    return "\n".join(lines)


def _near(shape: Shape, names: list[str], renames: Mapping[str, str]) -> dict[str, str]:
    """Return a column of a similar name for each field that no column gives, none for two fields."""
    lowered = {str(column).lower(): str(column) for column in names}
    found: dict[str, str] = {}
    for field in shape.missing(names, renames):
        similar = [difflib.get_close_matches(name, lowered, 1, 0.6) for name in shape.required[field]]
        fresh = [lowered[one] for (one,) in filter(None, similar) if lowered[one] not in found.values()]
        found |= {field: fresh[0]} if fresh else {}
    return found
