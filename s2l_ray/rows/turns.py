"""Fields of a row -> texts and turns, checked; what several shapes share."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any, get_args

from s2l_ray.rows.conversation import BadRow, Conversation, Role, Turn
from s2l_ray.rows.missing import is_missing
from s2l_ray.rows.reasons import Reason

_SAID: dict[Role, tuple[str, ...]] = {
    "system": ("system", "developer", "context"),
    "user": ("user", "human", "prompter", "person", "customer", "instruction", "question", "input"),
    "assistant": ("assistant", "gpt", "chatgpt", "gpt4", "gpt-4", "bot", "chatbot", "model", "ai", "bing", "bard",
                  "claude", "llm", "agent", "answer", "output", "function_call", "tool_call"),
    "tool": ("tool", "function", "observation", "ipython", "environment", "function_response", "tool_response",
             "function_output", "tool_output"),
}
ROLES: dict[str, Role] = {name: role for role, names in _SAID.items() for name in names}
"""Names of roles in use, in lower case -> role."""
_CALLING = ("function_call", "tool_call")
THOUGHTS = ("reasoning_content", "thinking", "reasoning", "thought")
CALLS = ("tool_calls", "function_call")
SWITCHES = {"weight": True, "loss": True, "train": True, "learn": True, "masked": False, "mask": False}
"""Key -> whether true (or 1) means that the message is learned."""
MESSAGE_KEYS = {"role", "from", "content", "value", "text", "name", "tool_call_id", *THOUGHTS, *CALLS, *SWITCHES}
"""What is read of a message."""


def text(value: Any, where: str, *, may_be_empty: bool = False) -> str:
    """Return a field's text; BadRow where it is missing, of another type, or empty and may not be."""
    if value is None or (is_missing(value) and not isinstance(value, (str, list, dict))):
        raise BadRow(Reason.MISSING_FIELD, f"{where} is missing or null")
    if not isinstance(value, str):
        raise BadRow(Reason.WRONG_TYPE, f"{where} is of type {type(value).__name__}, expected text")
    if not may_be_empty and not value.strip():
        raise BadRow(Reason.EMPTY_FIELD, f"{where} is empty")
    return value


def optional_text(value: Any, where: str) -> str:
    """Return an optional field's text, "" where it is absent; BadRow where it is of another type."""
    return "" if is_missing(value) else text(value, where)


def conversation(turns: Sequence[Turn], where: str, *, system: Any = None, tools: Any = None) -> Conversation:
    """Return the conversation up to the last assistant turn, checked; system and tools as their columns hold them."""
    if not is_missing(system):
        turns = [Turn("system", text(system, "system")), *turns]
    for i, turn in enumerate(turns):
        if turn.role == "system" and any(before.role != "system" for before in turns[:i]):
            raise BadRow(Reason.WRONG_TYPE, f"{where}: turn {i + 1} is a system turn after other turns")
    answered = max((i + 1 for i, turn in enumerate(turns) if turn.role == "assistant"), default=0)
    if not answered:
        raise BadRow(Reason.MISSING_FIELD, f"{where}: no assistant turn among {len(turns)}")
    for i, turn in enumerate(turns[:answered]):
        may_be_empty = turn.role in ("system", "tool") or bool(turn.calls)
        text(turn.content, f"{where}: the {turn.role} turn {i + 1}", may_be_empty=may_be_empty)
    return Conversation(tuple(turns[:answered]), _json_list(tools, "tools"))


def turns(messages: Any, field: str) -> list[Turn]:
    """Return one turn per message; their contents may still be empty.

    Messages are objects, or texts of user and assistant in turn; also JSON text of them, or an object of lists.
    """
    messages = message_list(messages, field)
    if not isinstance(messages, list):
        raise BadRow(Reason.WRONG_TYPE, f"{field} is of type {type(messages).__name__}, not a list")
    if not messages:
        raise BadRow(Reason.EMPTY_FIELD, f"{field} is an empty list")
    if all(isinstance(message, str) for message in messages):
        roles: tuple[Role, Role] = ("user", "assistant")
        return [Turn(roles[i % 2], message) for i, message in enumerate(messages)]
    return [_turn(message, f"{field}: turn {i + 1}") for i, message in enumerate(messages)]


def message_list(messages: Any, field: str) -> Any:
    """Return a field's messages as a list of objects that have roles, where they can be read as one.

    They may be JSON text, an object of lists of one length, or exchanges whose keys are the roles ({human, assistant}).
    """
    if isinstance(messages, str) and messages.lstrip()[:1] in ("[", "{"):
        try:
            messages = json.loads(messages)
        except ValueError as error:
            raise BadRow(Reason.WRONG_TYPE, f"{field} is text that is no JSON: {error}") from error
    if isinstance(messages, dict) and messages and all(isinstance(column, list) for column in messages.values()):
        lengths = {len(column) for column in messages.values()}
        if len(lengths) == 1:
            messages = [dict(zip(messages, cells, strict=True)) for cells in zip(*messages.values(), strict=True)]
    return [one for message in messages for one in _apart(message)] if isinstance(messages, list) else messages


def _apart(message: Any) -> list[Any]:
    """Return a message for each key of an exchange, in their order; any other message as it is."""
    if not isinstance(message, dict):
        return [message]
    held = {key: value for key, value in message.items() if not is_missing(value)}
    is_exchange = held and all(str(key).lower() in ROLES and isinstance(value, str) for key, value in held.items())
    return [{"role": key, "content": value} for key, value in held.items()] if is_exchange else [message]


def _turn(message: Any, where: str) -> Turn:
    if not isinstance(message, dict):
        raise BadRow(Reason.WRONG_TYPE, f"{where} is of type {type(message).__name__}, expected an object")
    name = _first(message, "role", "from")
    if name is None:
        raise BadRow(Reason.MISSING_FIELD, f"{where} has neither `role` nor `from`")
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        unknown = str(name)[:40]
        detail = (f"{where} has the unknown role {unknown!r}: say what it is with data.roles={{{unknown}: "
                  f"{' | '.join(get_args(Role))}}}; known are {', '.join(ROLES)}")
        raise BadRow(Reason.WRONG_TYPE, detail)
    content = _first(message, "content", "value", "text")
    if isinstance(content, list):
        content = "".join(_part(part, where) for part in content)
    calls = next((message[key] for key in CALLS if not is_missing(message.get(key))), None)
    if str(name).lower() in _CALLING:
        content, calls = None, content
    thinking = optional_text(_first(message, *THOUGHTS), f"{where}: thinking") if role == "assistant" else ""
    return Turn(
        role, "" if content is None and calls else text(content, f"{where}: content", may_be_empty=True),
        thinking=thinking, calls=_json_list(calls, f"{where}: tool calls", _call),
        name=str(_first(message, "name") or "") if role == "tool" else "", is_learned=_is_learned(message, where),
    )


def _is_learned(message: dict[str, Any], where: str) -> bool:
    """Return whether a message's own switches leave it to be learned.

    Raises
    ------
    BadRow
        A weight is neither 0 nor 1.
    """
    for key, learns in SWITCHES.items():
        value = message.get(key)
        if is_missing(value):
            continue
        if value not in (0, 1):
            raise BadRow(Reason.WRONG_TYPE, f"{where}: {key}={value!r}: a message is learned or not, 1 or 0")
        if bool(value) != learns:
            return False
    return True


def _json_list(value: Any, where: str, each: Any = lambda item, _: item) -> str:
    """Return a list as JSON text, "" where it is absent; one object counts as a list of one."""
    if is_missing(value):
        return ""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRow(Reason.WRONG_TYPE, f"{where} are text that is no JSON: {error}") from error
    items = value if isinstance(value, list) else [value]
    try:
        return json.dumps([each(_without_nulls(item), where) for item in items], ensure_ascii=False) if items else ""
    except TypeError as error:  # bytes, dates and decimals of typed files
        raise BadRow(Reason.WRONG_TYPE, f"{where} hold what JSON cannot: {error}") from error


def _call(call: Any, where: str) -> dict[str, Any]:
    """Return a call as templates take it: {type, function: {name, arguments}}, the arguments as an object."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRow(Reason.WRONG_TYPE, f"{where}: a call has no name: {str(call)[:80]}")
    arguments = function.get("arguments", function.get("parameters", {}))
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):  # a template that writes them as they are can still take a text
            arguments = json.loads(arguments)
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _without_nulls(value: Any) -> Any:
    """Return a value without the nulls that a table fills in."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _part(part: Any, where: str) -> str:
    """Return the text of one part of a message's content."""
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if not isinstance(part, dict) or kind != "text":
        raise BadRow(Reason.WRONG_TYPE, f"{where} has a part of type {str(kind)[:40]!r}, not text")
    return text(part.get("text"), f"{where}: text part", may_be_empty=True)


def _first(message: dict[str, Any], *keys: str) -> Any:
    """Return the first value that is not null: tables give every message the keys of all of them."""
    return next((message[key] for key in keys if message.get(key) is not None), None)
