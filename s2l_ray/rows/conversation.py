"""What every row becomes: turns of a conversation, with all of the row that shapes it."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from s2l_ray.rows.reasons import Reason

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one party says. `context` is Alpaca's `input`, kept apart since its template has two forms."""

    role: Role
    content: str
    context: str = ""
    thinking: str = ""
    """What the assistant thought before it answered, where the row keeps it apart from the answer."""
    calls: str = ""
    """The tools that the assistant calls, a JSON list as chat templates take it."""
    name: str = ""
    """Of the tool that a tool turn comes from."""
    is_learned: bool = True
    """Of an assistant turn: whether it is learned, or only seen."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in order; the last one is the assistant's, and system turns come first."""

    turns: tuple[Turn, ...]
    tools: str = ""
    """The tools that there are, a JSON list as chat templates take it."""


class BadRow(Exception):
    """The row cannot become a conversation, or its prompt style has no place for a part of it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def conversation_key(conversation: Conversation) -> str:
    """Return the text that two exact duplicates share: all that a model may see or learn, but white space at ends."""
    turns = "\x1e".join(_turn_key(turn) for turn in conversation.turns)
    return f"{turns}\x1d{conversation.tools}" if conversation.tools else turns


def digest(conversation: Conversation) -> str:
    """Return 32 hex digits that equal conversations share."""
    return hashlib.sha256(conversation_key(conversation).encode()).hexdigest()[:32]


def _turn_key(turn: Turn) -> str:
    rest = [turn.thinking.strip(), turn.calls, turn.name, "" if turn.is_learned else "seen"]
    texts = [turn.role, turn.content.strip(), turn.context.strip(), *(rest if any(rest) else [])]
    return "\x1f".join(texts)
