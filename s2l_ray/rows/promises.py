"""What every row shape promises, as checks of anybody's: `s2l_ray.testing` publishes them.

Each raises an AssertionError that says what the shape did instead. Ours pass them too.
"""

import copy
import datetime
import decimal
import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

from s2l_ray.rows.conversation import BadRow, Conversation, Role
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.shape import Shape, fields_of

_ODD: tuple[Any, ...] = (
    42, 1.5, math.nan, True, [], [1], [None], {}, {"a": 1}, [[]], [{}], " ", "[", "🙂\x00",
    b"x", [b"x"], datetime.date(2026, 1, 2), decimal.Decimal("1.5"),
)
"""Of typed files the last ones: no JSON text has them."""


def is_described(shape: Shape, row: Mapping[str, Any]) -> None:
    """It is an object of a Shape's class with a name, a docstring and fields."""
    assert isinstance(shape, Shape), f"{shape!r} is no object of a class of s2l_ray.rows.shape.Shape"
    name = getattr(shape, "name", None)
    assert isinstance(name, str) and name.isidentifier(), f"name={name!r} must be letters, digits and underscores"
    assert (type(shape).__doc__ or "").strip(), f"{name}: its class needs a docstring that says what a row is"
    assert shape.required, f"{name}: required names no field, so it would fit any rows"
    columns = [columns for columns in shape.fields.values() if isinstance(columns, str) or not columns]
    assert not columns, f"{name}: the columns of a field are a tuple of names, not {columns}"
    unknown = sorted(shape.becomes.keys() - shape.fields.keys())
    assert not unknown, f"{name}: becomes names {unknown}, which are none of its fields"
    assert type(shape.precedence) is int, f"{name}: precedence={shape.precedence!r} must be a whole number"


def reads_its_row(shape: Shape, row: Mapping[str, Any]) -> None:
    """A row of it has all its columns and becomes a conversation; also under other names. The row stays as it is."""
    lacks = shape.missing(row, {})
    assert not lacks, f"{shape.name}: the row has no column for {', '.join(lacks)}; it has {', '.join(row)}"
    before = copy.deepcopy(dict(row))
    found = _read(shape, row)
    assert isinstance(found, Conversation), f"{shape.name}: {dict(row)} is refused: {found}"
    _check_conversation(shape, row, found)
    assert dict(row) == before, f"{shape.name}: reading changed the row from {before} to {dict(row)}"
    held = shape.columns(row, {})
    renames = {field: f"their_{column}" for field, column in held.items()}
    renamed = {f"their_{column}": row[column] for column in held.values()}
    again = _read(shape, renamed, renames)
    assert again == found, f"{shape.name}: with columns renamed by data.columns the row becomes {again}, not {found}"


def refuses_a_row_without_a_field(shape: Shape, row: Mapping[str, Any]) -> None:
    """A required field that is absent, null or empty is a BadRow."""
    held = shape.columns(row, {})
    for field, columns in shape.required.items():
        rest = {name: value for name, value in row.items() if name not in columns}
        for bad in (rest, {**rest, held[field]: None}, {**rest, held[field]: ""}):
            found = _read(shape, bad)
            assert isinstance(found, BadRow), (
                f"{shape.name}: without {field} {bad} becomes {found}: raise BadRow, as "
                "s2l_ray.rows.turns.text does"
            )


def has_a_reason_for_any_row(shape: Shape, row: Mapping[str, Any]) -> None:
    """Whatever a field holds, the row becomes a conversation or a BadRow with a reason, and no other error."""
    held = shape.columns(row, {})
    for field, columns in shape.fields.items():
        column = held.get(field, columns[0])
        for value in _ODD:
            odd = {**row, column: value}
            found = _read(shape, odd)
            if isinstance(found, BadRow):
                assert isinstance(found.reason, Reason) and isinstance(found.detail, str), (
                    f"{shape.name}: {odd}: a BadRow has a Reason and a text, not {found.args}"
                )
            else:
                _check_conversation(shape, odd, found)


PROMISES: tuple[Callable[[Shape, Mapping[str, Any]], None], ...] = (
    is_described, reads_its_row, refuses_a_row_without_a_field, has_a_reason_for_any_row,
)


def check_shape(shape: Shape, row: Mapping[str, Any]) -> None:
    """Check all promises of a row shape on a good row of it.

    Raises
    ------
    AssertionError
        One is broken; the message says which, on what, and what to do.
    """
    for promise in PROMISES:
        promise(shape, row)


def _read(
    shape: Shape, row: Mapping[str, Any], renames: Mapping[str, str] | None = None
) -> Conversation | BadRow:
    try:
        return shape.conversation(fields_of(row, shape, renames or {}))
    except BadRow as bad:
        return bad
    except Exception as error:
        raise AssertionError(f"{shape.name}: {dict(row)} raised {type(error).__name__}: {error}; what a row cannot "
                             "give is a BadRow") from error


def _check_conversation(shape: Shape, row: Mapping[str, Any], found: Conversation) -> None:
    what = f"{shape.name}: {dict(row)} becomes {found}, in which"
    roles = [turn.role for turn in found.turns]
    assert set(roles) <= set(get_args(Role)), f"{what} a role is none of {', '.join(get_args(Role))}"
    assert bool(roles) and roles[-1] == "assistant", f"{what} the last turn is not the assistant's"
    assert "system" not in roles[roles.count("system"):], f"{what} a system turn follows others"
    for turn in found.turns:
        texts = (turn.content, turn.context, turn.thinking, turn.calls, turn.name, found.tools)
        assert all(isinstance(text, str) for text in texts), f"{what} something is no text"
