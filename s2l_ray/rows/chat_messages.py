"""A conversation as the messages that chat templates take, and each answer of it as a row of its own."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.conversation import BadRow, Conversation, Turn
from s2l_ray.rows.parsing import RawRow, to_json
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.shape import shape_of, to_conversation


def content_of(turn: Turn) -> str:
    """Return what a turn says, with the context of Alpaca's `input`."""
    return f"{turn.content}\n\n{turn.context}" if turn.context else turn.content


def calls_of(turn: Turn) -> list[dict[str, Any]]:
    """Return the tools that a turn calls, each {type, function: {name, arguments}}."""
    found: list[dict[str, Any]] = json.loads(turn.calls) if turn.calls else []
    return found


def message_of(turn: Turn) -> dict[str, Any]:
    """Return a turn as transformers' chat templates take it."""
    message: dict[str, Any] = {"role": turn.role, "content": content_of(turn)}
    if turn.thinking:
        message["reasoning_content"] = turn.thinking
    if turn.calls:
        message["tool_calls"] = calls_of(turn)
    if turn.name:
        message["name"] = turn.name
    return message


def only_last_learned(conversation: Conversation) -> Conversation:
    """Return the conversation with all answers but the last only seen."""
    *before, last = conversation.turns
    seen = [dataclasses.replace(turn, is_learned=False) if turn.role == "assistant" else turn for turn in before]
    return dataclasses.replace(conversation, turns=(*seen, last))


@dataclass(frozen=True)
class Reading:
    """How rows are read as prepare keeps them: with `data.turns=each` they are messages, see `each_answer`."""

    shape: str
    columns: Mapping[str, str]
    roles: Mapping[str, str]
    is_last_alone_learned: bool = False

    @classmethod
    def of(cls, shape: str, columns: Mapping[str, str], roles: Mapping[str, str], turns: str) -> "Reading":
        """Return the reading of rows of a shape, with the pool's renames and `data.turns`."""
        return cls("messages", {}, {}) if turns == "each" else cls(shape, columns, roles, turns == "last")

    @classmethod
    def recorded(cls, prepared: Mapping[str, Any]) -> "Reading":
        """Return the reading that the manifest of prepared examples records."""
        how = prepared["identity"]
        columns, roles, turns = (DataConfig.recorded(how, name) for name in ("columns", "roles", "turns"))
        return cls.of(prepared["format"], columns, roles, turns)

    def conversation(self, row: Mapping[str, Any]) -> Conversation:
        """Return a row's conversation; BadRow as `to_conversation`."""
        found = to_conversation(row, self.shape, self.columns, self.roles)
        return only_last_learned(found) if self.is_last_alone_learned else found


def each_answer(raw: RawRow, shape: str, data: DataConfig) -> list[RawRow]:
    """Return a row for each answer that is learned, as messages: what is said up to it, with that answer alone learned.

    Columns that are no part of the conversation stay; an id gets the number of its answer. A bad row stays one row.
    """
    if raw.value is None or len(raw.raw) > data.max_row_chars:
        return [raw]
    try:
        whole = to_conversation(raw.value, shape, data.columns, data.roles)
    except BadRow as bad:
        return [dataclasses.replace(raw, value=None, reason=bad.reason, detail=bad.detail)]
    read = shape_of(raw.value, shape, data.columns).columns(raw.value, data.columns).values()
    beside = {name: value for name, value in raw.value.items() if name not in read}
    ends = [i for i, turn in enumerate(whole.turns, start=1) if turn.role == "assistant" and turn.is_learned]
    rows = []
    for number, end in enumerate(ends, start=1):
        value = {**beside, **_as_row(only_last_learned(dataclasses.replace(whole, turns=whole.turns[:end])))}
        if data.id_column in value and not isinstance(value[data.id_column], (dict, list, type(None))):
            value[data.id_column] = f"{value[data.id_column]}#{number}"
        rows.append(RawRow(raw.file, raw.row, to_json(value), value))
    nothing = dataclasses.replace(raw, value=None, reason=Reason.NO_SUPERVISED_TOKEN, detail="no answer is learned")
    return rows or [nothing]


def _as_row(conversation: Conversation) -> dict[str, Any]:
    messages = [{**message_of(turn), **({} if turn.is_learned else {"weight": 0})} for turn in conversation.turns]
    return {"messages": messages, **({"tools": json.loads(conversation.tools)} if conversation.tools else {})}
