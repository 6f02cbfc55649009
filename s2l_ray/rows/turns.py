"""Fields of a row -> texts and turns, checked; what several shapes share."""

from typing import Any

from s2l_ray.rows.conversation import BadRow, Conversation, Role, Turn
from s2l_ray.rows.reasons import Reason

_ROLES: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant",
    "bot": "assistant", "model": "assistant",
}  # fmt: skip


def text(value: Any, where: str, *, may_be_empty: bool = False) -> str:
    """Return a field's text; BadRow where it is missing, of another type, or empty and may not be."""
    if value is None:
        raise BadRow(Reason.MISSING_FIELD, f"{where} is missing or null")
    if not isinstance(value, str):
        raise BadRow(Reason.WRONG_TYPE, f"{where} is of type {type(value).__name__}, expected text")
    if not may_be_empty and not value.strip():
        raise BadRow(Reason.EMPTY_FIELD, f"{where} is empty")
    return value


def conversation(turns: list[Turn], where: str) -> Conversation:
    """Return the conversation up to the last assistant turn, checked."""
    for i, turn in enumerate(turns):
        if turn.role == "system" and any(before.role != "system" for before in turns[:i]):
            raise BadRow(Reason.WRONG_TYPE, f"{where}: turn {i + 1} is a system turn after other turns")
    answered = max((i + 1 for i, turn in enumerate(turns) if turn.role == "assistant"), default=0)
    if not answered:
        raise BadRow(Reason.MISSING_FIELD, f"{where}: no assistant turn among {len(turns)}")
    for i, turn in enumerate(turns[:answered]):
        text(turn.content, f"{where}: the {turn.role} turn {i + 1}", may_be_empty=turn.role == "system")
    return Conversation(tuple(turns[:answered]))


def turns(messages: Any, field: str) -> list[Turn]:
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
    return Turn(role, text(content, f"{where}: content", may_be_empty=True))


def _part(part: Any, where: str) -> str:
    """Return the text of one part of a message's content."""
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if not isinstance(part, dict) or kind != "text":
        raise BadRow(Reason.WRONG_TYPE, f"{where} has a part of type {str(kind)[:40]!r}, not text")
    return text(part.get("text"), f"{where}: text part", may_be_empty=True)


def _first(message: dict[str, Any], *keys: str) -> Any:
    """Return the first value that is not null: tables give every message the keys of all of them."""
    return next((message[key] for key in keys if message.get(key) is not None), None)
