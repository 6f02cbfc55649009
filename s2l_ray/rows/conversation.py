"""What every row becomes: turns of a conversation."""

from dataclasses import dataclass
from typing import Literal

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
