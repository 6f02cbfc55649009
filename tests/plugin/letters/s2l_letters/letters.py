"""letter, reply, as archives of correspondence have them."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import Conversation, Turn
from s2l_ray.rows.shape import Shape
from s2l_ray.rows.turns import text


class Letters(Shape):
    """A letter and the reply to it."""

    name = "letters"
    required = {"letter": ("letter",), "reply": ("reply",)}
    becomes = {"letter": "the user turn", "reply": "the assistant turn"}
    precedence = 0

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the exchange."""
        letter, reply = (text(fields[name], name) for name in ("letter", "reply"))
        return Conversation((Turn("user", letter), Turn("assistant", reply)))


SHAPE = Letters()
