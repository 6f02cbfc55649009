"""A row's dict -> a conversation, for the four formats that people fine-tune on.

format             needs                            also reads
messages           messages: [{role, content}]      content as a list of {type: text, text} parts
sharegpt           conversations: [{from, value}]   role and content as the keys
alpaca             instruction, output | response   input | context
prompt_completion  prompt, completion: texts        both as lists of {role, content}
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from s2l_ray.errors import InputError
from s2l_ray.rows.reasons import Reason

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one party says. `context` is Alpaca's `input`, kept apart since its template has two forms."""

    role: Role
    content: str
    context: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in order; the last one is the assistant's, and system turns come first."""

    turns: tuple[Turn, ...]


class BadRow(Exception):
    """The row cannot become a conversation: `reason` is missing_field, empty_field or wrong_type."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class _Format:
    """The fields of a format; each is read from the first of its columns that the row holds."""

    required: dict[str, tuple[str, ...]]
    optional: dict[str, tuple[str, ...]]

    @property
    def fields(self) -> dict[str, tuple[str, ...]]:
        return self.required | self.optional


# In order of precedence. The conversational formats come first: files that carry `messages` often repeat its
# first turn as `prompt`, and only `messages` holds all turns.
_FORMATS = {
    "messages": _Format({"messages": ("messages",)}, {}),
    "sharegpt": _Format({"conversations": ("conversations",)}, {}),
    "alpaca": _Format(
        {"instruction": ("instruction",), "output": ("output", "response")}, {"input": ("input", "context")}
    ),
    "prompt_completion": _Format({"prompt": ("prompt",), "completion": ("completion",)}, {}),
}

_ROLES: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant",
    "bot": "assistant", "model": "assistant",
}  # fmt: skip


def detect_format(column_names: Iterable[str], columns: Mapping[str, str] | None = None) -> str:
    """Return the first format, of messages, sharegpt, alpaca, prompt_completion, whose columns are all there.

    `columns` renames as in `to_conversation`; where it is given, only formats with all its fields are tried.

    Raises
    ------
    InputError
        No format fits; the message lists the columns found, what each format needs, and near names.
    """
    names, renames = list(column_names), dict(columns or {})
    candidates = [name for name, fmt in _FORMATS.items() if renames.keys() <= fmt.fields.keys()]
    for candidate in candidates:
        if not _missing(candidate, names, renames):
            return candidate
    raise InputError(_no_format_fits(names, renames, candidates))


def to_conversation(
    row: Mapping[str, Any], format: str, columns: Mapping[str, str] | None = None
) -> Conversation:
    """Return the row's conversation, its texts unchanged. `columns` maps the format's fields to columns.

    A user turn that nobody answers at the end is dropped.

    Raises
    ------
    BadRow
        A field is missing, empty or of the wrong type.
    InputError
        There is no such format, or `columns` renames a field that the format has not.
    """
    if format not in _FORMATS:
        raise InputError(f"data.format={format} is unknown; choose one of {', '.join(_FORMATS)}")
    fields = _fields(row, format, columns or {})
    if format == "alpaca":
        instruction = _text(fields["instruction"], "instruction")
        context = "" if fields["input"] is None else _text(fields["input"], "input", may_be_empty=True)
        answer = Turn("assistant", _text(fields["output"], "output"))
        return Conversation((Turn("user", instruction, context), answer))
    if format == "prompt_completion":
        return _prompt_completion(fields["prompt"], fields["completion"])
    field = "messages" if format == "messages" else "conversations"
    return _conversation(_turns(fields[field], field), field)


def _fields(row: Mapping[str, Any], format: str, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of every field of the format; only optional ones may be None."""
    fmt = _FORMATS[format]
    unknown = ", ".join(sorted(columns.keys() - fmt.fields.keys()))
    if unknown:
        known = ", ".join(fmt.fields)
        raise InputError(f"data.columns: {unknown} is no field of format {format}; its fields are {known}")
    fields = {}
    for field, defaults in fmt.fields.items():
        accepted = (columns[field],) if field in columns else defaults
        value = next((row[name] for name in accepted if row.get(name) is not None), None)
        if value is None and field in fmt.required:
            null = [name for name in accepted if name in row]
            what = f"column {null[0]!r} is null" if null else f"no column {' or '.join(map(repr, accepted))}"
            raise BadRow(Reason.MISSING_FIELD, f"{what}; the row has {', '.join(map(str, row))[:200]}")
        fields[field] = value
    return fields


def _text(value: Any, where: str, may_be_empty: bool = False) -> str:
    if value is None:
        raise BadRow(Reason.MISSING_FIELD, f"{where} is missing or null")
    if not isinstance(value, str):
        raise BadRow(Reason.WRONG_TYPE, f"{where} is of type {type(value).__name__}, expected text")
    if not may_be_empty and not value.strip():
        raise BadRow(Reason.EMPTY_FIELD, f"{where} is empty")
    return value


def _prompt_completion(prompt: Any, completion: Any) -> Conversation:
    if isinstance(prompt, list) and isinstance(completion, list):
        answers = _turns(completion, "completion")
        if not any(turn.role == "assistant" for turn in answers):
            raise BadRow(Reason.MISSING_FIELD, "completion has no assistant turn")
        return _conversation(_turns(prompt, "prompt") + answers, "prompt and completion")
    if isinstance(prompt, list) or isinstance(completion, list):
        raise BadRow(Reason.WRONG_TYPE, "prompt and completion must both be texts or both be message lists")
    question, answer = _text(prompt, "prompt"), _text(completion, "completion")
    return Conversation((Turn("user", question), Turn("assistant", answer)))


def _conversation(turns: list[Turn], where: str) -> Conversation:
    """Return the turns up to the last assistant turn, checked."""
    for i, turn in enumerate(turns):
        if turn.role == "system" and any(before.role != "system" for before in turns[:i]):
            raise BadRow(Reason.WRONG_TYPE, f"{where}: turn {i + 1} is a system turn after other turns")
    answered = max((i + 1 for i, turn in enumerate(turns) if turn.role == "assistant"), default=0)
    if not answered:
        raise BadRow(Reason.MISSING_FIELD, f"{where}: no assistant turn among {len(turns)}")
    for i, turn in enumerate(turns[:answered]):
        _text(turn.content, f"{where}: the {turn.role} turn {i + 1}", may_be_empty=turn.role == "system")
    return Conversation(tuple(turns[:answered]))


def _turns(messages: Any, field: str) -> list[Turn]:
    """Return one turn per message; their contents may still be empty."""
    if not isinstance(messages, list):
        hint = "; JSON kept as text must be parsed first" if isinstance(messages, str) else ""
        raise BadRow(Reason.WRONG_TYPE, f"{field} is of type {type(messages).__name__}, not a list{hint}")
    if not messages:
        raise BadRow(Reason.EMPTY_FIELD, f"{field} is an empty list")
    return [_turn(message, f"{field}: turn {i + 1}") for i, message in enumerate(messages)]


def _turn(message: Any, where: str) -> Turn:
    if not isinstance(message, dict):
        raise BadRow(Reason.WRONG_TYPE, f"{where} is of type {type(message).__name__}, expected an object")
    name = _first(message, "role", "from")
    if name is None:
        raise BadRow(Reason.MISSING_FIELD, f"{where} has neither `role` nor `from`")
    role = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        detail = f"{where} has the unsupported role {str(name)[:40]!r}; known are {', '.join(_ROLES)}"
        raise BadRow(Reason.WRONG_TYPE, detail)
    if _first(message, "tool_calls", "function_call"):
        raise BadRow(Reason.WRONG_TYPE, f"{where} calls a tool, which is not supported")
    content = _first(message, "content", "value")
    if isinstance(content, list):
        content = "".join(_part(part, where) for part in content)
    return Turn(role, _text(content, f"{where}: content", may_be_empty=True))


def _part(part: Any, where: str) -> str:
    """Return the text of one part of a message's content."""
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if not isinstance(part, dict) or kind != "text":
        raise BadRow(Reason.WRONG_TYPE, f"{where} has a part of type {str(kind)[:40]!r}, not text")
    return _text(part.get("text"), f"{where}: text part", may_be_empty=True)


def _first(message: dict[str, Any], *keys: str) -> Any:
    """Return the first value that is not null: tables give every message the keys of all of them."""
    return next((message[key] for key in keys if message.get(key) is not None), None)


def _missing(format: str, names: list[str], renames: Mapping[str, str]) -> list[str]:
    """Return the required fields of a format that no column gives."""
    required = _FORMATS[format].required.items()
    return [
        field
        for field, defaults in required
        if not any(name in names for name in ([renames[field]] if field in renames else defaults))
    ]


def _no_format_fits(names: list[str], renames: Mapping[str, str], candidates: list[str]) -> str:
    lines = [f"no known format fits the columns: {', '.join(map(str, names)) or '(none)'}"]
    if renames and not candidates:
        lines.append(f"data.columns has {', '.join(renames)}, not the fields of any one format")
    absent = [column for column in renames.values() if column not in names]
    if absent:
        lines.append(f"data.columns names columns that are not there: {', '.join(absent)}")
    suggestions = []
    for name, fmt in _FORMATS.items():
        needs = " and ".join(" or ".join(accepted) for accepted in fmt.required.values())
        lines.append(f"  {name} needs {needs}")
        for field in _missing(name, names, renames):
            lowered = {str(column).lower(): str(column) for column in names}
            near = [m for n in fmt.required[field] for m in difflib.get_close_matches(n, lowered, 1, 0.6)]
            suggestions += [f"data.columns.{field}={lowered[near[0]]}"] if near else []
    lines.append(f"near names: {', '.join(suggestions)}" if suggestions else "no column has a similar name")
    lines.append("set data.format=..., or name your columns, as in data.columns.instruction=...")
    return "\n".join(lines)
